// io: everything that touches the operating system: event loop, TCP, TLS, DNS, timers, signals, ZMQ sockets, files.
//
//   loop.h     Loop: one thread; post, timers, signals
//   stream.h   Stream, Listener, connect, resolve
//   tls.h      TlsClientContext
//   zmq.h      ZmqSocket as a loop source
//   files.h    read whole, atomic replace, bounded append
//
// Built on Boost.Asio (reactor, resolver, TLS) and libzmq; neither shows in these headers.
#pragma once

#include "io/files.h"   // IWYU pragma: export
#include "io/loop.h"    // IWYU pragma: export
#include "io/stream.h"  // IWYU pragma: export
#include "io/tls.h"     // IWYU pragma: export
#include "io/zmq.h"     // IWYU pragma: export
