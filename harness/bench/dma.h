/* SPDX-License-Identifier: GPL-2.0 */
/* The parts of hmm_bench_dma.ko. */
struct device;
struct hmm_bench_dma;

int bench_get_pages(struct device *dev, struct hmm_bench_dma *d);
int bench_odp(struct device *dev, struct hmm_bench_dma *d);
int bench_odp_limit(struct hmm_bench_dma *d);
