// io: everything that touches the operating system: event loop, TCP, TLS, DNS, timers, signals, ZMQ sockets, files.
//
//   loop.h     Loop: one thread; post, timers, signals
//   stream.h   Stream, Listener, connect, resolve
//   tls.h      TlsClientContext
//   zmq.h      ZmqSocket as a loop source
//   files.h    read whole, atomic replace, bounded append
//
// epoll, OpenSSL and libzmq; none of them shows in these headers. Why not Asio: docs/adr/0003-http-and-loop.md.
#pragma once

#include "io/files.h"   // IWYU pragma: export
#include "io/loop.h"    // IWYU pragma: export
#include "io/stream.h"  // IWYU pragma: export
#include "io/tls.h"     // IWYU pragma: export
#include "io/zmq.h"     // IWYU pragma: export
