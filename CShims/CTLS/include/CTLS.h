// SPDX-License-Identifier: Apache-2.0
// CTLS: the calls of OpenSSL 3 that TLSEngine and TLSContext make. OpenSSL's headers stay in CTLS.c: most of what a
// program calls is a macro that Swift cannot see, and the headers disagree with Swift's Glibc module.
// Not here: any policy (TLSContext), any socket. Nothing is called back: a connection reads and writes octets in two
// its own buffers, through a custom BIO, which saves the copies of OpenSSL's memory BIOs.
// Threads: one thread at a time per connection; a context may be shared once it is set up.
#ifndef CTLS_H
#define CTLS_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

typedef struct ctls_context ctls_context;
typedef struct ctls_connection ctls_connection;
typedef struct ctls_session ctls_session;

enum {
    ctls_done = 1,
    /// More octets of the peer are needed.
    ctls_wants_input = 0,
    /// The peer said that it sends no more.
    ctls_closed = -1,
    /// See `ctls_error` and `ctls_verify_result`.
    ctls_failed = -2,
};

/// Whether this build has OpenSSL; without it there is no context.
int ctls_is_available(void);

// MARK: a context; functions answer 1 for success and 0 for failure, whose reason is in `ctls_error`

/// SSL_CTX_new(3): TLS 1.2 at least, no renegotiation, no compression. NULL without memory.
ctls_context *_Nullable ctls_context_new(int is_server);
void ctls_context_free(ctls_context *context);

/// SSL_CTX_set_min_proto_version(3) and its counterpart: 12 or 13.
int ctls_context_versions(ctls_context *context, int minimum, int maximum);

/// SSL_CTX_set_default_verify_paths(3): the certificates the system trusts.
int ctls_context_system_roots(ctls_context *context);

/// SSL_CTX_load_verify_locations(3): a file of PEM certificates, a hashed directory, or both.
int ctls_context_roots(ctls_context *context, const char *_Nullable file, const char *_Nullable directory);

/// SSL_CTX_use_certificate_chain_file(3).
int ctls_context_chain(ctls_context *context, const char *file);

/// SSL_CTX_use_PrivateKey_file(3) and SSL_CTX_check_private_key(3). `password` may be NULL. -1 when
/// the key is encrypted and the password is not it.
int ctls_context_key(ctls_context *context, const char *file, const char *_Nullable password);

/// SSL_CTX_set_verify(3): verify the peer's certificate; for a server also: refuse a client without one.
void ctls_context_verify(ctls_context *context, int verify, int require);

/// The names a server sends a client as those it trusts: SSL_CTX_set_client_CA_list(3) from a PEM file.
int ctls_context_client_roots(ctls_context *context, const char *file);

/// ALPN: protocols in the wire's form, each after its length. A server chooses the first of its own that is offered, and
/// refuses a client that offers none of them. Copied.
int ctls_context_protocols(ctls_context *context, const uint8_t *list, size_t count);

/// SSL_CTX_set_keylog_callback(3): appends the secrets of every connection to a file, which is created 0600.
int ctls_context_key_log(ctls_context *context, const char *file);

/// Whether a client keeps sessions for resumption, and a server hands out tickets.
void ctls_context_resumption(ctls_context *context, int enabled);

// MARK: a connection

ctls_connection *_Nullable ctls_connection_new(ctls_context *context, int is_server);
void ctls_connection_free(ctls_connection *connection);

/// SSL_set_tlsext_host_name(3).
int ctls_set_server_name(ctls_connection *connection, const char *name);

/// SSL_set1_host(3), or X509_VERIFY_PARAM_set1_ip_asc(3) for a numeric address.
int ctls_set_expected_host(ctls_connection *connection, const char *name, int is_address);

/// Room for octets that come from the peer; at least 16 KiB unless 0, which means: read first. NULL without memory.
uint8_t *_Nullable ctls_input_room(ctls_connection *connection, size_t *count);
/// So many octets were put into the room.
void ctls_input_filled(ctls_connection *connection, size_t count);
/// The peer sends no more octets.
void ctls_input_ended(ctls_connection *connection);

/// Octets for the peer, in order.
const uint8_t *_Nullable ctls_output(const ctls_connection *connection, size_t *count);
/// So many of them were sent.
void ctls_output_sent(ctls_connection *connection, size_t count);

/// SSL_do_handshake(3).
int ctls_handshake(ctls_connection *connection);
/// SSL_read_ex(3).
int ctls_read(ctls_connection *connection, void *octets, size_t capacity, size_t *count);
/// SSL_peek_ex(3) of one octet, which stays: ctls_done when there is one.
int ctls_peek(ctls_connection *connection);
/// SSL_write_ex(3): always takes everything, unless it fails.
int ctls_write(ctls_connection *connection, const void *octets, size_t count);
/// SSL_shutdown(3): puts close_notify into the output.
void ctls_shutdown(ctls_connection *connection);

/// SSL_get_verify_result(3): 0 when good.
long ctls_verify_result(const ctls_connection *connection);
/// X509_verify_cert_error_string(3).
const char *ctls_verify_text(long result);

/// The names in the peer's certificate, also one that was refused: DNS names and addresses, else its subject. Writes at most `capacity` octets and
/// a zero; 0 when there is no certificate.
int ctls_peer_names(const ctls_connection *connection, char *text, size_t capacity);
/// Whether the server asked for a certificate and there was none.
int ctls_was_asked(const ctls_connection *connection);
/// The subject of the peer's certificate, RFC 2253. As above.
int ctls_peer_subject(const ctls_connection *connection, char *text, size_t capacity);

const char *ctls_version(const ctls_connection *connection);
const char *ctls_cipher(const ctls_connection *connection);
int ctls_is_resumed(const ctls_connection *connection);
/// The protocol agreed on (ALPN); count 0 for none.
const uint8_t *_Nullable ctls_protocol(const ctls_connection *connection, unsigned *count);

/// The newest session the server gave for resumption, once; the caller frees it. NULL when there is none.
ctls_session *_Nullable ctls_take_session(ctls_connection *connection);
int ctls_set_session(ctls_connection *connection, ctls_session *session);
void ctls_session_free(ctls_session *session);

// MARK: errors

/// Takes the calling thread's oldest error: its library and reason number, and a text. 0 when there is none.
unsigned long ctls_error(char *text, size_t capacity);
void ctls_clear_errors(void);

/// Meaning of an OpenSSL reason number, as far as TLSEngine distinguishes it.
enum {
    ctls_reason_other = 0,
    ctls_reason_not_tls,
    ctls_reason_truncated,
    ctls_reason_no_client_certificate,
    ctls_reason_refused_certificate,
    ctls_reason_versions,
    ctls_reason_handshake_failure,
    ctls_reason_no_protocol,
};
int ctls_reason(unsigned long error);

// MARK: verify results that TLSEngine tells apart

extern const long ctls_verify_expired;
extern const long ctls_verify_not_yet_valid;
extern const long ctls_verify_wrong_host;
extern const long ctls_verify_wrong_address;
extern const long ctls_verify_revoked;

#pragma clang assume_nonnull end

#endif
