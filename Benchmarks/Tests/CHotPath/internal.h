// SPDX-License-Identifier: Apache-2.0
// What the two files of CHotPath know of each other.
#ifndef CHOTPATH_INTERNAL_H
#define CHOTPATH_INTERNAL_H

/// Nothing the calling thread does is counted from here on.
void chotpath_leave_out_thread(void);

#endif
