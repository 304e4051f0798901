// SPDX-License-Identifier: Apache-2.0
// COpenSSL: where OpenSSL's headers and libraries are found, through pkg-config. CTLS is what calls them.
#include <openssl/ssl.h>
