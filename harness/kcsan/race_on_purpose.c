// SPDX-License-Identifier: GPL-2.0
/*
 * A data race on purpose, to see that KCSAN finds one: two CPUs increment a counter
 * for five seconds, without a lock. And memory that nobody frees, for kmemleak.
 */
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/slab.h>

static unsigned long counter;

/* KCSAN leaves functions of its own out of its reports: those with csan_ in their name. */
static int racing_thread(void *unused)
{
	unsigned long end = jiffies + 5 * HZ;

	while (time_before(jiffies, end)) {
		counter++;
		/* Each time in memory. */
		barrier();
		cond_resched();
	}
	/* kthread_stop() wants to find it here. */
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

static int __init race_on_purpose_init(void)
{
	struct task_struct *threads[2];
	void *lost;
	int i;

	/* A stale pointer, in a register say, can hide one of them. */
	for (i = 0; i < 10; i++) {
		lost = kmalloc(96, GFP_KERNEL);
		OPTIMIZER_HIDE_VAR(lost);
	}
	for (i = 0; i < 2; i++) {
		threads[i] = kthread_create(racing_thread, NULL, "race/%d", i);
		if (IS_ERR(threads[i]))
			continue;
		kthread_bind(threads[i], i);
		wake_up_process(threads[i]);
	}
	for (i = 0; i < 2; i++)
		if (!IS_ERR(threads[i]))
			kthread_stop(threads[i]);
	return 0;
}

static void __exit race_on_purpose_exit(void)
{
}

module_init(race_on_purpose_init);
module_exit(race_on_purpose_exit);
MODULE_DESCRIPTION("A data race on purpose");
MODULE_LICENSE("GPL");
