// Changes of a request's body, as splices into the original bytes.
#include <array>

#include "api/api.h"

namespace warmpath::api {
namespace {

// One replacement of body[at.offset, +at.length).
struct Patch {
  Slice at;
  std::string text;
};

std::string apply(std::string_view body, Patch* first, Patch* last) {
  if (last - first == 2 && first[1].at.offset < first[0].at.offset) std::swap(first[0], first[1]);
  std::size_t size = body.size();
  for (const Patch* p = first; p != last; ++p) size += p->text.size();
  std::string out;
  out.reserve(size);
  std::size_t from = 0;
  for (const Patch* p = first; p != last; ++p) {
    out.append(body.substr(from, p->at.offset - from));
    out.append(p->text);
    from = p->at.offset + p->at.length;
  }
  out.append(body.substr(from));
  return out;
}

// Where a first member can be put: after the opening brace. A parsed body is a non-empty object.
Slice first_member(std::string_view body) { return {body.find('{') + 1, 0}; }

Patch usage_patch(std::string_view body, const Request& request) {
  if (request.include_usage_slice) return {*request.include_usage_slice, "true"};
  if (!request.stream_options) return {first_member(body), R"("stream_options":{"include_usage":true},)"};
  const std::string_view value = body.substr(request.stream_options->offset, request.stream_options->length);
  if (value.front() != '{') return {*request.stream_options, R"({"include_usage":true})"};
  const bool empty = trim(value.substr(1, value.size() - 2)).empty();
  return {{request.stream_options->offset + 1, 0}, empty ? R"("include_usage":true)" : R"("include_usage":true,)"};
}

Patch model_patch(std::string_view body, const Request& request, std::string_view model) {
  Patch patch;
  if (request.model_slice.length == 0) {
    patch.at = first_member(body);
    patch.text = R"("model":)";
    append_json_string(patch.text, model);
    patch.text.push_back(',');
  } else {
    patch.at = request.model_slice;
    append_json_string(patch.text, model);
  }
  return patch;
}

}  // namespace

std::string spliced(std::string_view body, const Request& request, std::optional<std::string_view> model,
                    UsageSplice usage) {
  std::array<Patch, 2> patches;
  std::size_t used = 0;
  if (model) patches[used++] = model_patch(body, request, *model);
  if (usage == UsageSplice::kAdd && !request.include_usage) patches[used++] = usage_patch(body, request);
  return apply(body, patches.data(), patches.data() + used);
}

std::string with_model(std::string_view body, const Request& request, std::string_view model) {
  return spliced(body, request, model, UsageSplice::kKeep);
}

std::string with_include_usage(std::string_view body, const Request& request) {
  return spliced(body, request, std::nullopt, UsageSplice::kAdd);
}

}  // namespace warmpath::api
