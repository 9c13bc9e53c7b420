// The C door of src/tokens/rust, private to this room; the other side of it is src/tokens/rust/src/door.rs.
// Every function returns 0 or one of WtStatus and then fills `error`; texts and ids handed out are freed with the
// wt_free functions. No exception or panic passes it. Texts and a chat's fields must be UTF-8: the library does not
// check them again; files of a model may be anything.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

enum WtStatus : std::int32_t { kWtOk = 0, kWtInvalid = 1, kWtUnsupported = 2, kWtTooLarge = 3, kWtInternal = 4 };

// Borrowed bytes; data == nullptr: absent.
struct WtBytes {
  const std::uint8_t* data;
  std::size_t size;
};
struct WtText {
  std::uint8_t* data;
  std::size_t size;
  std::size_t capacity;
};
struct WtIds {
  std::uint32_t* data;
  std::size_t size;
  std::size_t capacity;
};
struct WtFiles {
  WtBytes tokenizer_json;
  WtBytes tokenizer_config_json;
  WtBytes chat_template_jinja;
  WtBytes special_tokens_map_json;
  WtBytes config_json;
};
struct WtChat {
  WtBytes messages;
  WtBytes tools;
  WtBytes documents;
  WtBytes chat_template_kwargs;
  WtBytes reasoning_effort;
  std::int32_t add_generation_prompt;
  std::int32_t continue_final_message;
  std::int64_t now_unix_seconds;
};
// Borrowed from the model.
struct WtFacts {
  std::uint32_t vocabulary_size;
  std::int32_t has_chat_template;
  const std::uint32_t* end_ids;
  std::size_t end_ids_size;
  WtBytes inexact_because;
  WtBytes slow_because;
  WtBytes uncut_because;
  const std::uint32_t* before;
  std::size_t before_size;
  const std::uint32_t* after;
  std::size_t after_size;
};

std::int32_t wt_open(const WtFiles* files, void** out, WtText* error);
void wt_close(void* model);
void wt_facts(const void* model, WtFacts* out);
std::int32_t wt_encode(const void* model, WtBytes text, std::int32_t add_special, WtIds* out, WtText* error);
std::int32_t wt_encode_parts(const void* model, WtBytes text, const std::size_t* ends, std::uint32_t* counts,
                             std::size_t size, WtIds* out, WtText* error);
std::uint64_t wt_count_by_fast(const void* model, WtBytes text);
std::int32_t wt_encode_by_reference(const void* model, WtBytes text, std::int32_t add_special, WtIds* out,
                                    WtText* error);
std::uint64_t wt_given_up(const void* model);
std::int32_t wt_is_cut(std::uint32_t left, std::uint32_t right);
std::int32_t wt_decode(const void* model, const std::uint32_t* ids, std::size_t size, std::int32_t skip_special,
                       WtText* out, WtText* error);
std::int32_t wt_render(const void* model, const WtChat* chat, WtText* out, WtText* error);
void wt_free_text(WtText text);
void wt_free_ids(WtIds ids);
}
