#include "executor/data/token_array.h"

#include <fmt/format.h>

#include <bit>
#include <cassert>
#include <utility>

#include "core/error.h"

namespace msmoe::executor {
namespace {

static_assert(std::endian::native == std::endian::little, "the files' numbers are taken as they lie in memory");

// Calls use(Number{}) with the C++ type of these tokens.
template <class Use>
auto with_number(TokenType type, Use use) {
  switch (type) {
    case TokenType::kUint8: return use(std::uint8_t{});
    case TokenType::kInt8: return use(std::int8_t{});
    case TokenType::kUint16: return use(std::uint16_t{});
    case TokenType::kInt16: return use(std::int16_t{});
    case TokenType::kInt32: return use(std::int32_t{});
    case TokenType::kUint32: return use(std::uint32_t{});
    case TokenType::kInt64: break;
  }
  return use(std::int64_t{});
}

// Negative numbers are as good as huge ones.
template <class Number>
bool is_token(Number number, std::int64_t vocabulary_size) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(number)) < static_cast<std::uint64_t>(vocabulary_size);
}

// Whether all are tokens of the vocabulary. No branch inside the loop, so that it is vectorised.
template <class Number>
bool widen(const std::byte* from, std::int64_t vocabulary_size, std::span<std::int32_t> out) {
  bool are_tokens = true;
  for (std::size_t idx = 0; idx < out.size(); ++idx) {
    const auto number = load<Number>(from + idx * sizeof(Number));
    are_tokens &= is_token(number, vocabulary_size);
    out[idx] = static_cast<std::int32_t>(number);
  }
  return are_tokens;
}

}  // namespace

std::int64_t bytes_per_token(TokenType type) {
  return with_number(type, [](auto number) { return static_cast<std::int64_t>(sizeof number); });
}

TokenArray::TokenArray(std::shared_ptr<const MappedFile> file, std::int64_t begin, TokenType type,
                       std::int64_t num_tokens, std::int64_t vocabulary_size)
    : file_(std::move(file)), begin_(begin), type_(type), num_tokens_(num_tokens), vocabulary_size_(vocabulary_size) {
  assert(vocabulary_size >= 1 && vocabulary_size <= std::int64_t{1} << 31);
  assert(begin >= 0 && begin <= file_->size());
  assert(num_tokens >= 0 && num_tokens <= (file_->size() - begin) / bytes_per_token(type));
}

void TokenArray::copy(std::int64_t first, std::span<std::int32_t> out) const {
  const auto num_copied = static_cast<std::int64_t>(out.size());
  assert(first >= 0 && first <= num_tokens_ && num_copied <= num_tokens_ - first);
  with_number(type_, [&](auto example) {
    using Number = decltype(example);
    constexpr std::int64_t kBytes = sizeof(Number);
    const std::byte* const from = file_->bytes(begin_ + first * kBytes, num_copied * kBytes).data();
    if (widen<Number>(from, vocabulary_size_, out)) return;
    for (std::int64_t idx = 0; idx < num_copied; ++idx) {
      const auto number = load<Number>(from + idx * kBytes);
      if (!is_token(number, vocabulary_size_))
        throw UserError(path(), fmt::format("token {}, byte {}", first + idx, begin_ + (first + idx) * kBytes),
                        fmt::format("is {}, which the model has no token for", number),
                        fmt::format("0 to {} are allowed", vocabulary_size_ - 1));
    }
  });
}

}  // namespace msmoe::executor
