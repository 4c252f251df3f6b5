// SPDX-License-Identifier: GPL-2.0
/* What xe_svm.c calls, and no test of it. */
void mock_called(const char *name);

#define STUB(f) long f(void); long f(void) { mock_called(#f); return 0; }

STUB(__xe_bo_release_dummy)
STUB(xe_bo_create_locked)
STUB(xe_bo_put)
STUB(xe_bo_unlock)
STUB(xe_is_xe_file)
STUB(xe_map_resource_to_region)
STUB(xe_migrate_exec_queue)
STUB(xe_migrate_from_vram)
STUB(xe_migrate_to_vram)
STUB(xe_pm_runtime_get)
STUB(xe_pm_runtime_get_noresume)
STUB(xe_pm_runtime_put)
STUB(xe_vm_alloc_cpu_addr_mirror_vma)
STUB(xe_vm_find_cpu_addr_mirror_vma_range)
STUB(xe_vma_has_default_mem_attrs)
STUB(xe_vma_mem_attr_copy)
