// SPDX-License-Identifier: GPL-2.0
/* What kfd_svm.c and amdgpu_hmm.c call and no test expects. */
void mock_called(const char *name);
#define STUB(f) long f(void); long f(void) { mock_called(#f); return 0; }

STUB(amdgpu_amdkfd_evict_userptr)
STUB(amdgpu_amdkfd_reserve_mem_limit)
STUB(amdgpu_amdkfd_xcp_memory_size)
STUB(amdgpu_bo_create)
STUB(amdgpu_bo_sync_wait)
STUB(amdgpu_gmc_filter_faults_remove)
STUB(amdgpu_ih_wait_on_checkpoint_process_ts)
STUB(amdgpu_ttm_tt_affect_userptr)
STUB(amdgpu_vm_bo_invalidate)
STUB(amdgpu_xgmi_same_hive)
STUB(kfd_get_process_device_data)
STUB(kfd_lookup_process_by_pasid)
STUB(kfd_process_device_data_by_id)
STUB(kfd_process_gpuid_from_node)
STUB(kfd_process_gpuidx_from_gpuid)
STUB(kfd_smi_event_page_fault_end)
STUB(kfd_smi_event_page_fault_start)
STUB(svm_migrate_to_vram)
STUB(svm_migrate_vram_to_ram)
