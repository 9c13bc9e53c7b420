#include "io/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <thread>

#include "io/stream.h"
#include "io/test_loop.h"

namespace warmpath::io {
namespace {

using ::testing::HasSubstr;

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* thing) const { Free(thing); }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;

// A self-signed certificate for "engine.test" and 127.0.0.1, valid from `from` to `to` seconds from now.
Certificate make_certificate(EVP_PKEY* key, long from, long to) {
  Certificate made(X509_new());
  X509_set_version(made.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), from);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), to);
  X509_set_pubkey(made.get(), key);
  X509_NAME* name = X509_get_subject_name(made.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("engine.test"), -1, -1, 0);
  X509_set_issuer_name(made.get(), name);
  for (const auto& [id, value] : {std::pair{NID_subject_alt_name, "DNS:engine.test,IP:127.0.0.1"},
                                  std::pair{NID_basic_constraints, "critical,CA:TRUE"}}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
    X509_add_ext(made.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(made.get(), key, EVP_sha256());
  return made;
}

std::string pem_of(X509* certificate) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  std::string out(text, static_cast<std::size_t>(size));
  BIO_free(bio);
  return out;
}

// Blocking TLS echo for one connection on a thread of its own.
class EchoPeer {
 public:
  explicit EchoPeer(long from = -3600, long to = 3600)
      : key_(EVP_EC_gen("P-256")), certificate_(make_certificate(key_.get(), from, to)) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    ::inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    socklen_t size = sizeof at;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(::listen(fd_, 8), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~EchoPeer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  Address address() const { return {"127.0.0.1", port_}; }
  std::string ca() const { return pem_of(certificate_.get()); }

 private:
  void serve() {
    const int connection = ::accept(fd_, nullptr, nullptr);
    if (connection < 0) return;
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context, certificate_.get());
    SSL_CTX_use_PrivateKey(context, key_.get());
    SSL* session = SSL_new(context);
    SSL_set_fd(session, connection);
    if (SSL_accept(session) == 1) {
      char buffer[10'000];
      for (int got = SSL_read(session, buffer, sizeof buffer); got > 0; got = SSL_read(session, buffer, sizeof buffer)) {
        if (SSL_write(session, buffer, got) <= 0) break;
      }
      SSL_shutdown(session);
    }
    SSL_free(session);
    SSL_CTX_free(context);
    ::close(connection);
  }

  Key key_;
  Certificate certificate_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

struct Sink final : StreamSink {
  void on_data(std::string_view bytes) override { data += bytes; }
  void on_end() override { ended = true; }
  void on_drained() override {}
  void on_closed(const Error& why) override { closed = why; }
  std::string data;
  bool ended = false;
  std::optional<Error> closed;
};

Result<std::shared_ptr<Stream>> dial(Loop& loop, const Address& address, const std::optional<std::string>& ca,
                                     const std::string& host) {
  ConnectOptions options;
  options.tls = TlsClientContext::create(ca).value();
  options.host = host;
  options.timeout = std::chrono::seconds(10);
  std::optional<Result<std::shared_ptr<Stream>>> got;
  const auto pending = connect(loop, address, options, [&](auto result) { got.emplace(std::move(result)); });
  EXPECT_TRUE(RunUntil(loop, [&] { return got.has_value(); }));
  return std::move(*got);
}

TEST(Tls, EchoesMegabytesAndEndsProperly) {
  Loop loop;
  EchoPeer peer;
  auto stream = dial(loop, peer.address(), peer.ca(), "engine.test");
  ASSERT_TRUE(stream.ok()) << stream.error().message;
  Sink sink;
  (*stream)->set_sink(&sink);
  std::string sent(3 << 20, '\0');
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 31 / 7);
  const std::string_view parts[] = {std::string_view(sent).substr(0, 5), std::string_view(sent).substr(5)};
  (*stream)->write_parts(parts);
  ASSERT_TRUE(RunUntil(loop, [&] { return sink.data.size() == sent.size() || sink.closed; }));
  EXPECT_TRUE(sink.data == sent);
  (*stream)->finish();
  ASSERT_TRUE(RunUntil(loop, [&] { return sink.ended; }));
  EXPECT_FALSE(sink.closed);
}

TEST(Tls, PausedAndResumedLosesNothingItHadDecrypted) {
  Loop loop;
  EchoPeer peer;
  auto stream = dial(loop, peer.address(), peer.ca(), "127.0.0.1");
  ASSERT_TRUE(stream.ok()) << stream.error().message;
  Sink sink;
  (*stream)->set_sink(&sink);
  (*stream)->pause_reading();
  (*stream)->write(std::string(40'000, 't'));
  Settle(loop);
  EXPECT_TRUE(sink.data.empty());
  (*stream)->resume_reading();
  ASSERT_TRUE(RunUntil(loop, [&] { return sink.data.size() == 40'000; }));
  (*stream)->close();
}

TEST(Tls, RefusesUnknownAuthorityWrongNameAndExpired) {
  Loop loop;
  {
    EchoPeer peer;
    const auto unknown = dial(loop, peer.address(), std::nullopt, "engine.test");
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().kind, ErrorKind::kUnavailable);
    EXPECT_THAT(unknown.error().message, HasSubstr("certificate refused"));
  }
  {
    EchoPeer peer;
    const auto wrong = dial(loop, peer.address(), peer.ca(), "other.test");
    ASSERT_FALSE(wrong.ok());
    EXPECT_THAT(wrong.error().message, HasSubstr("mismatch"));
  }
  {
    EchoPeer peer(-7200, -3600);
    const auto expired = dial(loop, peer.address(), peer.ca(), "engine.test");
    ASSERT_FALSE(expired.ok());
    EXPECT_THAT(expired.error().message, HasSubstr("expired"));
  }
}

TEST(Tls, AHalfHandshakeEndsAtTheDeadline) {
  Loop loop;
  auto silent = listen(loop, {"127.0.0.1", 0}, {}, [](auto) {}).value();
  silent->pause();  // connects, but nobody speaks
  ConnectOptions options;
  options.tls = TlsClientContext::create(std::nullopt).value();
  options.host = "engine.test";
  options.timeout = std::chrono::milliseconds(30);
  std::optional<Error> error;
  const auto pending = connect(loop, silent->address(), options, [&](auto result) { error = result.error(); });
  ASSERT_TRUE(RunUntil(loop, [&] { return error.has_value(); }));
  EXPECT_EQ(error->kind, ErrorKind::kUnavailable);
}

TEST(Tls, PlainTextIsAHandshakeFailure) {
  Loop loop;
  std::shared_ptr<Stream> far;
  auto plain = listen(loop, {"127.0.0.1", 0}, {}, [&](std::shared_ptr<Stream> s) {
    far = std::move(s);
    far->write("HTTP/1.1 400 Bad Request\r\n\r\n");
  }).value();
  const auto result = dial(loop, plain->address(), std::nullopt, "engine.test");
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message, HasSubstr("TLS handshake failed"));
}

TEST(Tls, ACaFileWithoutACertificateIsNamed) {
  EXPECT_EQ(TlsClientContext::create("no pem here").error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace warmpath::io
