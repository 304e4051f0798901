// SPDX-License-Identifier: Apache-2.0
// CTaskCancellation: the two functions of Swift's runtime that withTaskCancellationHandler is made of.
// In C because the compiler does not let Swift name them. CancellableWait.swift says why they are called, and what holds.
#ifndef CTASKCANCELLATION_H
#define CTASKCANCELLATION_H

#pragma clang assume_nonnull begin

/// swift_task_addCancellationHandler of the running task: has `ctask_cancelled` called with `wait` when it is cancelled,
/// at once where it is already. Takes memory from the task's stack. Returns the record to remove.
void *ctask_add(const void *wait);

/// swift_task_removeCancellationHandler: afterwards no call is made, and none is under way.
void ctask_remove(void *record);

/// The task of a wait was cancelled; in CancellableWait.swift.
__attribute__((weak)) void ctask_cancelled(const void *wait);

#pragma clang assume_nonnull end

#endif
