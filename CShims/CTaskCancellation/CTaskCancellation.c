// SPDX-License-Identifier: Apache-2.0
// CTaskCancellation: a closure of Swift is a function of Swift's calling convention and a pointer that it gets beside
// its arguments. Here the function is always the same, and the pointer is the wait.
// Weak: a build for a compiler that CancellableWait.swift does not trust with this has neither side of it.
#include "CTaskCancellation.h"

#define SWIFTCALL __attribute__((swiftcall))
#define WEAK __attribute__((weak))
#define SWIFT_CONTEXT __attribute__((swift_context))

WEAK SWIFTCALL extern void *swift_task_addCancellationHandler(
    SWIFTCALL void (*handler)(SWIFT_CONTEXT const void *),
    const void *context
);
WEAK SWIFTCALL extern void swift_task_removeCancellationHandler(void *record);

static SWIFTCALL void cancelled(SWIFT_CONTEXT const void *wait) { ctask_cancelled(wait); }

void *ctask_add(const void *wait) { return swift_task_addCancellationHandler(cancelled, wait); }

void ctask_remove(void *record) { swift_task_removeCancellationHandler(record); }
