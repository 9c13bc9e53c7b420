// A live router's index, asked over its admin listener. Private to app.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "app/scribe.h"
#include "http/http.h"
#include "index/index.h"
#include "io/io.h"

namespace warmpath::app {

// Thread rule: the loop's. Destroying it cancels.
class PeerCopy final : private http::ResponseSink {
 public:
  // `done` once, never from inside: what was whole when the peer, the link or the deadline ended it; `why` in it says
  // what did.
  PeerCopy(io::Loop& loop, const http::Url& peer, Duration deadline, std::function<void(index::SnapshotContent)> done);
  ~PeerCopy() override;

 private:
  void on_head(const http::ResponseHead& head) override;
  void on_body(std::string_view bytes) override;
  void on_done() override;
  void on_failed(const Error& error, bool head_seen, bool sent) override;
  void resolved(Result<std::vector<io::Address>> found);
  void finish(std::string why);

  io::Loop& loop_;
  const http::Url peer_;
  std::function<void(index::SnapshotContent)> done_;
  std::unique_ptr<http::HttpClient> client_;
  std::unique_ptr<io::Pending> resolving_;
  std::unique_ptr<http::ClientCall> call_;
  index::SnapshotReader reader_{kSnapshotBytesMax};
  int status_ = 0;
  io::Timer deadline_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);
};

}  // namespace warmpath::app
