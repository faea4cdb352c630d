#include "executor/data/llm_c_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "core/error.h"
#include "executor/data/one_document.h"

namespace msmoe::executor {
namespace {

constexpr std::int64_t kHeaderBytes = 256 * sizeof(std::int32_t);

struct Kind {
  std::int32_t magic, version;
  TokenType type;
};
constexpr std::array<Kind, 2> kKinds = {{{20240520, 1, TokenType::kUint16}, {20240801, 7, TokenType::kUint32}}};

const Kind* kind_of(const MappedFile& file) {
  if (file.size() < static_cast<std::int64_t>(sizeof(std::int32_t))) return nullptr;
  const auto magic = load<std::int32_t>(file.bytes(0, sizeof(std::int32_t)).data());
  const auto* const kind = std::ranges::find(kKinds, magic, &Kind::magic);
  return kind == kKinds.end() ? nullptr : kind;
}

}  // namespace

bool is_llm_c(const MappedFile& file) { return kind_of(file) != nullptr; }

std::unique_ptr<TokenSource> open_llm_c(std::shared_ptr<const MappedFile> file, std::int64_t vocabulary_size) {
  const Kind* const kind = kind_of(*file);
  assert(kind);
  if (file->size() < kHeaderBytes)
    throw UserError(file->path(), "header", fmt::format("the file ends after {} bytes", file->size()),
                    fmt::format("a header of llm.c has {}", kHeaderBytes));
  const std::byte* const header = file->bytes(0, kHeaderBytes).data();
  const auto version = load<std::int32_t>(header + 4);
  const std::int64_t num_tokens = load<std::int32_t>(header + 8);
  if (version != kind->version)
    throw UserError(file->path(), "header", fmt::format("version {} of llm.c's format", version),
                    fmt::format("{} is read", kind->version));
  if (num_tokens < 0)
    throw UserError(file->path(), "header", fmt::format("announces {} tokens", num_tokens), "0 or more are allowed");
  const std::int64_t announced = kHeaderBytes + num_tokens * bytes_per_token(kind->type);
  if (file->size() != announced)
    throw UserError(file->path(), "header",
                    fmt::format("announces {} tokens of {} bytes, but the file has {} bytes", num_tokens,
                                bytes_per_token(kind->type), file->size()),
                    fmt::format("it has to have {}", announced));
  return std::make_unique<OneDocument>(
      TokenArray(std::move(file), kHeaderBytes, kind->type, num_tokens, vocabulary_size));
}

}  // namespace msmoe::executor
