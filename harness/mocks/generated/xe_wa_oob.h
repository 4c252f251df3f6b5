/* SPDX-License-Identifier: MIT */
/* xe generates this from its list of workarounds; xe_vm.c asks for one of them. */
enum { XE_WA_OOB_22014953428 };
