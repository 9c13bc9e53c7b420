#include "io/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>

#include <algorithm>
#include <climits>

#include "io/tls_session.h"

namespace warmpath::io {
namespace {

std::string openssl_message(std::string_view what) {
  std::string out(what);
  if (const unsigned long code = ERR_get_error(); code != 0) {
    char buffer[256];
    ERR_error_string_n(code, buffer, sizeof buffer);
    out += ": ";
    out += buffer;
  }
  ERR_clear_error();
  return out;
}

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSession {
  void operator()(SSL* session) const { SSL_free(session); }
};
struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};

class Context final : public TlsClientContext {
 public:
  explicit Context(SSL_CTX* context) : context_(context) {}
  SSL_CTX* get() const { return context_.get(); }

 private:
  std::unique_ptr<SSL_CTX, FreeContext> context_;
};

class Session final : public TlsSession {
 public:
  explicit Session(SSL* session) : session_(session) {}

  Step handshake(std::string& why) override {
    ERR_clear_error();
    const int result = SSL_connect(session_.get());
    if (result == 1) return Step::kDone;
    const int error = SSL_get_error(session_.get(), result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Step::kAgain;
    const long verified = SSL_get_verify_result(session_.get());
    why = verified != X509_V_OK
              ? std::string("TLS certificate refused: ") + X509_verify_cert_error_string(verified) +
                    "; name its authority with ca="
              : openssl_message("TLS handshake failed");
    return Step::kFailed;
  }

  ssize_t read(char* into, std::size_t size, std::string& why) override {
    ERR_clear_error();
    const int got = SSL_read(session_.get(), into, static_cast<int>(std::min<std::size_t>(size, INT_MAX)));
    if (got > 0) return got;
    const int error = SSL_get_error(session_.get(), got);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return -1;
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    why = openssl_message("TLS read failed");
    return -2;
  }

  ssize_t write(std::string_view bytes, std::string& why) override {
    ERR_clear_error();
    const int put =
        SSL_write(session_.get(), bytes.data(), static_cast<int>(std::min<std::size_t>(bytes.size(), INT_MAX)));
    if (put > 0) return put;
    const int error = SSL_get_error(session_.get(), put);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return -1;
    why = openssl_message("TLS write failed");
    return -2;
  }

  void shut_down() override {
    ERR_clear_error();
    SSL_shutdown(session_.get());
    ERR_clear_error();
  }

 private:
  std::unique_ptr<SSL, FreeSession> session_;
};

Result<void> trust_only(SSL_CTX* context, const std::string& pem) {
  const std::unique_ptr<BIO, FreeBio> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  int count = 0;
  for (;;) {
    const std::unique_ptr<X509, FreeCertificate> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (!certificate) break;
    X509_STORE_add_cert(store, certificate.get());
    ++count;
  }
  ERR_clear_error();
  if (count == 0) return Error{ErrorKind::kInvalid, "no PEM certificate in the ca file"};
  return {};
}

}  // namespace

Result<std::shared_ptr<TlsClientContext>> TlsClientContext::create(const std::optional<std::string>& ca_pem) {
  auto context = std::make_shared<Context>(SSL_CTX_new(TLS_client_method()));
  if (context->get() == nullptr) return Error{ErrorKind::kInternal, openssl_message("no TLS context")};
  SSL_CTX_set_min_proto_version(context->get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context->get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context->get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
  // A peer that closes without close_notify ended its body by length or chunks, or the HTTP layer notices.
  SSL_CTX_set_options(context->get(), SSL_OP_IGNORE_UNEXPECTED_EOF);
  if (ca_pem) {
    if (auto trusted = trust_only(context->get(), *ca_pem); !trusted.ok()) return trusted.error();
  } else if (SSL_CTX_set_default_verify_paths(context->get()) != 1) {
    return Error{ErrorKind::kInternal, openssl_message("the system's certificate authorities cannot be read")};
  }
  return std::shared_ptr<TlsClientContext>(std::move(context));
}

std::unique_ptr<TlsSession> TlsSession::create(TlsClientContext& context, int fd, const std::string& host) {
  SSL* session = SSL_new(static_cast<Context&>(context).get());
  WP_CHECK(session != nullptr);
  SSL_set_fd(session, fd);
  unsigned char address[16];
  const bool numeric =
      ::inet_pton(AF_INET, host.c_str(), address) == 1 || ::inet_pton(AF_INET6, host.c_str(), address) == 1;
  if (numeric) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host.c_str());
  } else {
    SSL_set_tlsext_host_name(session, host.c_str());
    SSL_set1_host(session, host.c_str());
  }
  return std::make_unique<Session>(session);
}

}  // namespace warmpath::io
