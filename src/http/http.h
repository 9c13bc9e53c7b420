// http: HTTP/1.1 server and client connections, and server-sent events.
//
//   message.h   Head, Headers, limits, query and path
//   parser.h    bytes -> heads and bodies (the hardened part; fuzzed)
//   server.h    HttpListener: accepts, parses, hands out Exchanges
//   client.h    HttpClient: pooled connections to engines, streaming, cancellation
//   sse.h       SseParser, event writer
//
// What is forwarded is written anew from parsed heads, never copied: one framing header, no smuggling.
// Thread rule: everything belongs to one Loop's thread.
#pragma once

#include "http/client.h"   // IWYU pragma: export
#include "http/message.h"  // IWYU pragma: export
#include "http/parser.h"   // IWYU pragma: export
#include "http/server.h"   // IWYU pragma: export
#include "http/sse.h"      // IWYU pragma: export
