// ZMQ sockets as loop sources.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "io/loop.h"

namespace warmpath::io {

enum class ZmqKind : std::uint8_t { kPub, kSub, kRouter, kDealer };

struct ZmqOptions {
  ZmqKind kind = ZmqKind::kSub;
  std::string endpoint;                 // tcp://host:port
  enum class Attach : std::uint8_t { kConnect, kBind } attach = Attach::kConnect;
  std::vector<std::string> topics;      // SUB: prefixes; {""} for all
  // A reader that is behind by so many messages, read in a row without its queue ever being empty, is given no more of
  // them until it is: the rest of the queue is dropped. 0: no limit.
  int receive_high_water = 100'000;
  int send_high_water = 100'000;
  std::int64_t message_bytes_max = 64 << 20;
  Duration heartbeat = std::chrono::seconds(10);  // ZMTP ping; a silent peer is dropped after 3
};

// Messages are lists of frames. Budgeted: at most a few hundred messages per loop turn, so that one loud publisher
// cannot starve the rest. Thread rule: the loop's thread only.
class ZmqSocket {
 public:
  virtual ~ZmqSocket() = default;
  struct Callbacks {
    std::function<void(std::vector<std::string>&& frames)> message;
    std::function<void()> connected;     // transport up (also again after a break); may be empty
    std::function<void()> disconnected;  // transport lost; libzmq reconnects by itself; may be empty
  };
  // kInvalid for a malformed endpoint, kConflict for a taken port.
  static Result<std::unique_ptr<ZmqSocket>> open(Loop& loop, const ZmqOptions& options, Callbacks callbacks);
  // False when the high-water mark refuses it (or a ROUTER's peer is gone): the message is dropped.
  virtual bool send(const std::vector<std::string>& frames) = 0;
  virtual std::string bound_endpoint() const = 0;  // real port when bound to tcp://…:0 or tcp://…:*
};

}  // namespace warmpath::io
