// SPDX-License-Identifier: Apache-2.0
// CTLS: see CTLS.h. Without the package's trait TLS only the functions at the end, which call nothing: a plain build needs no
// OpenSSL.
#ifdef TLS
#define _GNU_SOURCE
#endif
#include "CTLS.h"

#ifdef TLS

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(OPENSSL_VERSION_MAJOR >= 3, "OpenSSL 3 or later");

// OpenSSL frees what its threads still use in a handler of exit(3). Asked for before any other call of it.
__attribute__((constructor)) static void keep_until_exit(void) { OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL); }

const long ctls_verify_expired = X509_V_ERR_CERT_HAS_EXPIRED;
const long ctls_verify_not_yet_valid = X509_V_ERR_CERT_NOT_YET_VALID;
const long ctls_verify_wrong_host = X509_V_ERR_HOSTNAME_MISMATCH;
const long ctls_verify_wrong_address = X509_V_ERR_IP_ADDRESS_MISMATCH;
const long ctls_verify_revoked = X509_V_ERR_CERT_REVOKED;

struct ctls_context {
    SSL_CTX *context;
    uint8_t *protocols;
    size_t protocols_count;
    int key_log;
};

struct ctls_session {
    SSL_SESSION *session;
};

// Octets read and not yet parsed, or written and not yet sent: octets[start..<end].
typedef struct {
    uint8_t *octets;
    size_t start, end, capacity;
} buffer;

struct ctls_connection {
    SSL *ssl;
    buffer input, output;
    int input_ended;
    int was_asked;
    SSL_SESSION *session;
    X509 *refused;
};

enum { input_size = 32 << 10 };

static int buffer_reserve(buffer *b, size_t count) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->capacity - b->end >= count) return 1;
    if (b->start > 0) {
        memmove(b->octets, b->octets + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
        if (b->capacity - b->end >= count) return 1;
    }
    size_t capacity = b->capacity ? b->capacity : input_size;
    while (capacity - b->end < count) {
        if (capacity > SIZE_MAX / 2) return 0;
        capacity *= 2;
    }
    uint8_t *octets = realloc(b->octets, capacity);
    if (!octets) return 0;
    b->octets = octets;
    b->capacity = capacity;
    return 1;
}

// An idle connection keeps no buffer.
static void buffer_release(buffer *b) {
    free(b->octets);
    *b = (buffer){0};
}

// MARK: the BIO

static int bio_write(BIO *bio, const char *octets, size_t count, size_t *written) {
    ctls_connection *connection = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!buffer_reserve(&connection->output, count)) return 0;
    memcpy(connection->output.octets + connection->output.end, octets, count);
    connection->output.end += count;
    *written = count;
    return 1;
}

static int bio_read(BIO *bio, char *octets, size_t capacity, size_t *read) {
    ctls_connection *connection = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t count = connection->input.end - connection->input.start;
    if (count == 0) {
        if (!connection->input_ended) BIO_set_retry_read(bio);
        return 0;
    }
    if (count > capacity) count = capacity;
    memcpy(octets, connection->input.octets + connection->input.start, count);
    connection->input.start += count;
    *read = count;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)number, (void)pointer;
    ctls_connection *connection = BIO_get_data(bio);
    switch (command) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return connection->input_ended && connection->input.start == connection->input.end;
    case BIO_CTRL_PENDING: return (long)(connection->input.end - connection->input.start);
    default: return 0;
    }
}

static BIO_METHOD *bio_method(void) {
    static BIO_METHOD *method;
    static int state;
    // Made once; a thread that comes second waits for the first.
    int expected = 0;
    if (__atomic_compare_exchange_n(&state, &expected, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "buffers of a connection");
        if (method) {
            BIO_meth_set_write_ex(method, bio_write);
            BIO_meth_set_read_ex(method, bio_read);
            BIO_meth_set_ctrl(method, bio_control);
        }
        __atomic_store_n(&state, 2, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&state, __ATOMIC_ACQUIRE) != 2) {}
    return method;
}

// MARK: contexts

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    ctls_connection *connection = SSL_get_app_data(ssl);
    if (!connection || SSL_is_server(ssl)) return 0;
    if (connection->session) SSL_SESSION_free(connection->session);
    connection->session = session;
    return 1;
}

// The certificate is gone from the connection when its verification fails, but errors name it.
static int keep_refused(int good, X509_STORE_CTX *store) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    ctls_connection *connection = ssl ? SSL_get_app_data(ssl) : NULL;
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    if (!good && connection && certificate && !connection->refused && X509_up_ref(certificate))
        connection->refused = certificate;
    return good;
}

// The server asks for a certificate and there is none.
static int note_asked(SSL *ssl, X509 **certificate, EVP_PKEY **key) {
    (void)certificate, (void)key;
    ctls_connection *connection = SSL_get_app_data(ssl);
    if (connection) connection->was_asked = 1;
    return 0;
}

static void log_key(const SSL *ssl, const char *line) {
    ctls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    if (!context || context->key_log < 0) return;
    // One write per line, so that lines of several connections do not mix.
    size_t count = strlen(line);
    char *text = malloc(count + 1);
    if (!text) return;
    memcpy(text, line, count);
    text[count] = '\n';
    ssize_t ignored = write(context->key_log, text, count + 1);
    (void)ignored;
    free(text);
}

static int choose_protocol(
    SSL *ssl, const unsigned char **chosen, unsigned char *chosen_count, const unsigned char *offered, unsigned count,
    void *argument) {
    (void)ssl;
    ctls_context *context = argument;
    unsigned char *match;
    int result = SSL_select_next_proto(
        &match, chosen_count, context->protocols, (unsigned)context->protocols_count, offered, count);
    if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = match;
    return SSL_TLSEXT_ERR_OK;
}

ctls_context *ctls_context_new(int is_server) {
    ctls_context *context = calloc(1, sizeof *context);
    if (!context) return NULL;
    context->key_log = -1;
    context->context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (!context->context) {
        free(context);
        return NULL;
    }
    SSL_CTX_set_app_data(context->context, context);
    SSL_CTX_set_min_proto_version(context->context, TLS1_2_VERSION);
    SSL_CTX_set_options(context->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context->context, SSL_MODE_RELEASE_BUFFERS);
    static const unsigned char name[] = "EpollNetworking";
    SSL_CTX_set_session_id_context(context->context, name, sizeof name - 1);
    SSL_CTX_sess_set_new_cb(context->context, keep_session);
    SSL_CTX_set_client_cert_cb(context->context, note_asked);
    return context;
}

void ctls_context_free(ctls_context *context) {
    SSL_CTX_free(context->context);
    free(context->protocols);
    if (context->key_log >= 0) close(context->key_log);
    free(context);
}

static int version_number(int version) { return version >= 13 ? TLS1_3_VERSION : TLS1_2_VERSION; }

int ctls_context_versions(ctls_context *context, int minimum, int maximum) {
    return SSL_CTX_set_min_proto_version(context->context, version_number(minimum)) &&
           SSL_CTX_set_max_proto_version(context->context, version_number(maximum));
}

int ctls_context_system_roots(ctls_context *context) { return SSL_CTX_set_default_verify_paths(context->context); }

int ctls_context_roots(ctls_context *context, const char *file, const char *directory) {
    return SSL_CTX_load_verify_locations(context->context, file, directory);
}

int ctls_context_chain(ctls_context *context, const char *file) {
    return SSL_CTX_use_certificate_chain_file(context->context, file);
}

struct password {
    const char *text;
    int was_asked;
};

static int give_password(char *text, int capacity, int writing, void *argument) {
    (void)writing;
    struct password *password = argument;
    if (!password) return -1;
    password->was_asked = 1;
    size_t count = password->text ? strlen(password->text) : 0;
    if (count == 0 || count > (size_t)capacity) return -1;
    memcpy(text, password->text, count);
    return (int)count;
}

int ctls_context_key(ctls_context *context, const char *file, const char *password) {
    // Without a callback OpenSSL would ask on the terminal.
    SSL_CTX_set_default_passwd_cb(context->context, give_password);
    struct password answer = {.text = password};
    SSL_CTX_set_default_passwd_cb_userdata(context->context, &answer);
    int result = SSL_CTX_use_PrivateKey_file(context->context, file, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(context->context, NULL);
    if (result != 1 && answer.was_asked) return -1;
    return result == 1 && SSL_CTX_check_private_key(context->context) == 1;
}

void ctls_context_verify(ctls_context *context, int verify, int require) {
    int mode = verify ? SSL_VERIFY_PEER | (require ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0) : SSL_VERIFY_NONE;
    SSL_CTX_set_verify(context->context, mode, keep_refused);
}

int ctls_context_client_roots(ctls_context *context, const char *file) {
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (!names) return 0;
    SSL_CTX_set_client_CA_list(context->context, names);
    return 1;
}

int ctls_context_protocols(ctls_context *context, const uint8_t *list, size_t count) {
    free(context->protocols);
    context->protocols = malloc(count ? count : 1);
    if (!context->protocols) return 0;
    memcpy(context->protocols, list, count);
    context->protocols_count = count;
    SSL_CTX_set_alpn_select_cb(context->context, choose_protocol, context);
    // This one answers 0 for success.
    return SSL_CTX_set_alpn_protos(context->context, list, (unsigned)count) == 0;
}

int ctls_context_key_log(ctls_context *context, const char *file) {
    context->key_log = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (context->key_log < 0) return 0;
    SSL_CTX_set_keylog_callback(context->context, log_key);
    return 1;
}

void ctls_context_resumption(ctls_context *context, int enabled) {
    if (enabled) {
        SSL_CTX_set_session_cache_mode(
            context->context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    } else {
        SSL_CTX_set_session_cache_mode(context->context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(context->context, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(context->context, 0);
    }
}

// MARK: connections

ctls_connection *ctls_connection_new(ctls_context *context, int is_server) {
    BIO_METHOD *method = bio_method();
    ctls_connection *connection = method ? calloc(1, sizeof *connection) : NULL;
    if (!connection) return NULL;
    connection->ssl = SSL_new(context->context);
    BIO *bio = BIO_new(method);
    if (!connection->ssl || !bio) {
        SSL_free(connection->ssl);
        BIO_free(bio);
        free(connection);
        return NULL;
    }
    BIO_set_data(bio, connection);
    BIO_set_init(bio, 1);
    SSL_set_bio(connection->ssl, bio, bio);
    SSL_set_app_data(connection->ssl, connection);
    if (is_server) SSL_set_accept_state(connection->ssl);
    else SSL_set_connect_state(connection->ssl);
    return connection;
}

void ctls_connection_free(ctls_connection *connection) {
    SSL_free(connection->ssl);
    if (connection->session) SSL_SESSION_free(connection->session);
    X509_free(connection->refused);
    buffer_release(&connection->input);
    buffer_release(&connection->output);
    free(connection);
}

int ctls_set_server_name(ctls_connection *connection, const char *name) {
    return (int)SSL_set_tlsext_host_name(connection->ssl, name);
}

int ctls_set_expected_host(ctls_connection *connection, const char *name, int is_address) {
    if (is_address) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(connection->ssl), name);
    SSL_set_hostflags(connection->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(connection->ssl, name);
}

uint8_t *ctls_input_room(ctls_connection *connection, size_t *count) {
    *count = 0;
    buffer *input = &connection->input;
    if (input->end - input->start >= input_size / 2) return input->octets;
    if (!buffer_reserve(input, input_size - (input->end - input->start))) return NULL;
    *count = input->capacity - input->end;
    return input->octets + input->end;
}

void ctls_input_filled(ctls_connection *connection, size_t count) { connection->input.end += count; }

void ctls_input_ended(ctls_connection *connection) { connection->input_ended = 1; }

const uint8_t *ctls_output(const ctls_connection *connection, size_t *count) {
    *count = connection->output.end - connection->output.start;
    return connection->output.octets + connection->output.start;
}

void ctls_output_sent(ctls_connection *connection, size_t count) {
    connection->output.start += count;
    if (connection->output.start != connection->output.end) return;
    connection->output.start = connection->output.end = 0;
    if (connection->output.capacity > (size_t)256 << 10) buffer_release(&connection->output);
}

static int outcome(ctls_connection *connection, int result) {
    if (result > 0) return ctls_done;
    switch (SSL_get_error(connection->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        if (connection->input.start == connection->input.end) buffer_release(&connection->input);
        return ctls_wants_input;
    case SSL_ERROR_ZERO_RETURN: return ctls_closed;
    default: return ctls_failed;
    }
}

int ctls_handshake(ctls_connection *connection) {
    ERR_clear_error();
    return outcome(connection, SSL_do_handshake(connection->ssl));
}

int ctls_read(ctls_connection *connection, void *octets, size_t capacity, size_t *count) {
    ERR_clear_error();
    *count = 0;
    return outcome(connection, SSL_read_ex(connection->ssl, octets, capacity, count));
}

int ctls_peek(ctls_connection *connection) {
    ERR_clear_error();
    char octet;
    size_t count = 0;
    return outcome(connection, SSL_peek_ex(connection->ssl, &octet, 1, &count));
}

int ctls_write(ctls_connection *connection, const void *octets, size_t count) {
    ERR_clear_error();
    size_t written = 0;
    if (count == 0) return ctls_done;
    return outcome(connection, SSL_write_ex(connection->ssl, octets, count, &written));
}

void ctls_shutdown(ctls_connection *connection) {
    ERR_clear_error();
    SSL_shutdown(connection->ssl);
    ERR_clear_error();
}

long ctls_verify_result(const ctls_connection *connection) { return SSL_get_verify_result(connection->ssl); }

const char *ctls_verify_text(long result) { return X509_verify_cert_error_string(result); }

int ctls_was_asked(const ctls_connection *connection) { return connection->was_asked; }

static X509 *peer_certificate(const ctls_connection *connection) {
    X509 *certificate = SSL_get0_peer_certificate(connection->ssl);
    return certificate ? certificate : connection->refused;
}

int ctls_peer_subject(const ctls_connection *connection, char *text, size_t capacity) {
    X509 *certificate = peer_certificate(connection);
    if (!certificate || capacity == 0) return 0;
    text[0] = 0;
    BIO *bio = BIO_new(BIO_s_mem());
    if (!bio) return 0;
    X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    int count = BIO_read(bio, text, (int)(capacity > 4096 ? 4096 : capacity) - 1);
    text[count > 0 ? count : 0] = 0;
    BIO_free(bio);
    return 1;
}

int ctls_peer_names(const ctls_connection *connection, char *text, size_t capacity) {
    X509 *certificate = peer_certificate(connection);
    if (!certificate || capacity == 0) return 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t filled = 0;
    text[0] = 0;
    for (int index = 0; names && index < sk_GENERAL_NAME_num(names); index++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
        char address[INET6_ADDRSTRLEN] = {0};
        const char *piece = address;
        size_t count = 0;
        if (name->type == GEN_DNS) {
            piece = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
            count = (size_t)ASN1_STRING_length(name->d.dNSName);
        } else if (name->type == GEN_IPADD) {
            int length = ASN1_STRING_length(name->d.iPAddress);
            if (length != 4 && length != 16) continue;
            int family = length == 4 ? AF_INET : AF_INET6;
            if (!inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), address, sizeof address)) continue;
            count = strlen(address);
        } else {
            continue;
        }
        if (filled + count + 3 > capacity) break;
        if (filled > 0) {
            memcpy(text + filled, ", ", 2);
            filled += 2;
        }
        memcpy(text + filled, piece, count);
        filled += count;
        text[filled] = 0;
    }
    GENERAL_NAMES_free(names);
    return filled > 0 ? 1 : ctls_peer_subject(connection, text, capacity);
}

const char *ctls_version(const ctls_connection *connection) { return SSL_get_version(connection->ssl); }
const char *ctls_cipher(const ctls_connection *connection) { return SSL_get_cipher_name(connection->ssl); }
int ctls_is_resumed(const ctls_connection *connection) { return SSL_session_reused(connection->ssl); }

const uint8_t *ctls_protocol(const ctls_connection *connection, unsigned *count) {
    const unsigned char *name = NULL;
    *count = 0;
    SSL_get0_alpn_selected(connection->ssl, &name, count);
    return name;
}

ctls_session *ctls_take_session(ctls_connection *connection) {
    if (!connection->session) return NULL;
    ctls_session *session = malloc(sizeof *session);
    if (!session) return NULL;
    session->session = connection->session;
    connection->session = NULL;
    return session;
}

int ctls_set_session(ctls_connection *connection, ctls_session *session) {
    return SSL_set_session(connection->ssl, session->session);
}

void ctls_session_free(ctls_session *session) {
    SSL_SESSION_free(session->session);
    free(session);
}

// MARK: errors

unsigned long ctls_error(char *text, size_t capacity) {
    unsigned long error = ERR_get_error();
    if (capacity > 0) text[0] = 0;
    if (error == 0) return 0;
    const char *reason = ERR_reason_error_string(error);
    if (reason && capacity > 0) {
        strncpy(text, reason, capacity - 1);
        text[capacity - 1] = 0;
    } else {
        ERR_error_string_n(error, text, capacity);
    }
    return error;
}

void ctls_clear_errors(void) { ERR_clear_error(); }

int ctls_reason(unsigned long error) {
    int library = ERR_GET_LIB(error), reason = ERR_GET_REASON(error);
    if (library == ERR_LIB_SSL) {
        switch (reason) {
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_HTTP_REQUEST:
        case SSL_R_HTTPS_PROXY_REQUEST:
        case SSL_R_PACKET_LENGTH_TOO_LONG: return ctls_reason_not_tls;
        case SSL_R_UNEXPECTED_EOF_WHILE_READING: return ctls_reason_truncated;
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED: return ctls_reason_no_client_certificate;
        case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
        case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        case SSL_R_TLSV1_ALERT_ACCESS_DENIED: return ctls_reason_refused_certificate;
        case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE: return ctls_reason_handshake_failure;
        case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        case SSL_R_UNSUPPORTED_PROTOCOL: return ctls_reason_versions;
        case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL: return ctls_reason_no_protocol;
        default: return ctls_reason_other;
        }
    }
    return ctls_reason_other;
}

int ctls_is_available(void) { return 1; }

#else

// There is no context, and so no connection: the rest is never called.

int ctls_is_available(void) { return 0; }

const long ctls_verify_expired = 1;
const long ctls_verify_not_yet_valid = 2;
const long ctls_verify_wrong_host = 3;
const long ctls_verify_wrong_address = 4;
const long ctls_verify_revoked = 5;

ctls_context *_Nullable ctls_context_new(int is_server) { return NULL; }
void ctls_context_free(ctls_context *context) {}
int ctls_context_versions(ctls_context *context, int minimum, int maximum) { return 0; }
int ctls_context_system_roots(ctls_context *context) { return 0; }
int ctls_context_roots(ctls_context *context, const char *_Nullable file, const char *_Nullable directory) { return 0; }
int ctls_context_chain(ctls_context *context, const char *file) { return 0; }
int ctls_context_key(ctls_context *context, const char *file, const char *_Nullable password) { return 0; }
void ctls_context_verify(ctls_context *context, int verify, int require) {}
int ctls_context_client_roots(ctls_context *context, const char *file) { return 0; }
int ctls_context_protocols(ctls_context *context, const uint8_t *list, size_t count) { return 0; }
int ctls_context_key_log(ctls_context *context, const char *file) { return 0; }
void ctls_context_resumption(ctls_context *context, int enabled) {}
ctls_connection *_Nullable ctls_connection_new(ctls_context *context, int is_server) { return NULL; }
void ctls_connection_free(ctls_connection *connection) {}
int ctls_set_server_name(ctls_connection *connection, const char *name) { return 0; }
int ctls_set_expected_host(ctls_connection *connection, const char *name, int is_address) { return 0; }
uint8_t *_Nullable ctls_input_room(ctls_connection *connection, size_t *count) { *count = 0; return NULL; }
void ctls_input_filled(ctls_connection *connection, size_t count) {}
void ctls_input_ended(ctls_connection *connection) {}
const uint8_t *_Nullable ctls_output(const ctls_connection *connection, size_t *count) { *count = 0; return NULL; }
void ctls_output_sent(ctls_connection *connection, size_t count) {}
int ctls_handshake(ctls_connection *connection) { return ctls_failed; }
int ctls_read(ctls_connection *connection, void *octets, size_t capacity, size_t *count) { return ctls_failed; }
int ctls_peek(ctls_connection *connection) { return ctls_failed; }
int ctls_write(ctls_connection *connection, const void *octets, size_t count) { return ctls_failed; }
void ctls_shutdown(ctls_connection *connection) {}
long ctls_verify_result(const ctls_connection *connection) { return 0; }
const char *ctls_verify_text(long result) { return ""; }
int ctls_peer_names(const ctls_connection *connection, char *text, size_t capacity) { return 0; }
int ctls_was_asked(const ctls_connection *connection) { return 0; }
int ctls_peer_subject(const ctls_connection *connection, char *text, size_t capacity) { return 0; }
const char *ctls_version(const ctls_connection *connection) { return ""; }
const char *ctls_cipher(const ctls_connection *connection) { return ""; }
int ctls_is_resumed(const ctls_connection *connection) { return 0; }
const uint8_t *_Nullable ctls_protocol(const ctls_connection *connection, unsigned *count) { *count = 0; return NULL; }
ctls_session *_Nullable ctls_take_session(ctls_connection *connection) { return NULL; }
int ctls_set_session(ctls_connection *connection, ctls_session *session) { return 0; }
void ctls_session_free(ctls_session *session) {}
unsigned long ctls_error(char *text, size_t capacity) { return 0; }
void ctls_clear_errors(void) {}
int ctls_reason(unsigned long error) { return 0; }
#endif
