#include "executor/data/megatron_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace msmoe::executor {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr std::int64_t kVersionAt = 9, kTypeAt = 17, kSequencesAt = 18, kEntriesAt = 26, kHeaderBytes = 34;

// Large enough that asking for the file's length costs nothing, small enough that the answer still holds.
constexpr std::int64_t kChecked = 1 << 16;

std::optional<TokenType> type_of(std::uint8_t number) {
  switch (number) {
    case 1: return TokenType::kUint8;
    case 2: return TokenType::kInt8;
    case 3: return TokenType::kInt16;
    case 4: return TokenType::kInt32;
    case 5: return TokenType::kInt64;
    case 8: return TokenType::kUint16;
    default: return std::nullopt;
  }
}

}  // namespace

MegatronIndex::MegatronIndex(std::string path) : file_(std::move(path)) {
  read_header();
  check_sequences();
  check_documents();
}

void MegatronIndex::refuse(const std::string& place, const std::string& message, const std::string& hint) const {
  throw UserError(path(), place, message, hint);
}

std::int64_t MegatronIndex::pointers_begin() const { return kHeaderBytes + num_sequences_ * 4; }
std::int64_t MegatronIndex::documents_begin() const { return pointers_begin() + num_sequences_ * 8; }

void MegatronIndex::read_header() {
  const auto magic = file_.bytes(0, std::min<std::int64_t>(file_.size(), kMagic.size()));
  if (!std::ranges::equal(magic, std::as_bytes(std::span(kMagic))))
    refuse("header", "is not the index of a Megatron data set", "it has to begin with MMIDIDX");
  if (file_.size() < kHeaderBytes)
    refuse("header", fmt::format("the file ends after {} bytes", file_.size()),
           fmt::format("a header has {}", kHeaderBytes));

  const std::byte* const header = file_.bytes(0, kHeaderBytes).data();
  const auto version = load<std::uint64_t>(header + kVersionAt);
  if (version != 1) refuse("version", fmt::format("is {}", version), "1 is read");
  const auto number = load<std::uint8_t>(header + kTypeAt);
  const auto type = type_of(number);
  if (!type)
    refuse("type of the tokens", fmt::format("is {}", number),
           "allowed are 1 (uint8), 2 (int8), 3 (int16), 4 (int32), 5 (int64) and 8 (uint16)");
  type_ = *type;

  // Counts of which every one takes a byte at least, so that no product below overflows.
  const auto count = [&](std::int64_t at, const char* place) {
    const auto value = load<std::uint64_t>(header + at);
    if (value > static_cast<std::uint64_t>(file_.size()))
      refuse(place, fmt::format("is {}, more than a file of {} bytes can hold", value, file_.size()),
             "is the file whole?");
    return static_cast<std::int64_t>(value);
  };
  num_sequences_ = count(kSequencesAt, "number of sequences");
  num_entries_ = count(kEntriesAt, "number of document indices");
  const std::int64_t fewest_entries = num_sequences_ == 0 ? 1 : 2;
  if (num_entries_ < fewest_entries)
    refuse("number of document indices", fmt::format("is {}", num_entries_),
           fmt::format("{} or more are allowed for {} sequences", fewest_entries, num_sequences_));
  const std::int64_t length = documents_begin() + num_entries_ * 8;
  if (file_.size() != length)
    refuse("header",
           fmt::format("announces {} sequences and {} document indices, but the file has {} bytes", num_sequences_,
                       num_entries_, file_.size()),
           fmt::format("it has to have {}", length));
}

void MegatronIndex::check_sequences() {
  const std::int64_t bytes = bytes_per_token(type_);
  const std::int64_t most_tokens = std::numeric_limits<std::int64_t>::max() / bytes;
  for (std::int64_t begin = 0; begin < num_sequences_; begin += kChecked) {
    const std::int64_t num_checked = std::min(kChecked, num_sequences_ - begin);
    const std::byte* const sizes = file_.bytes(kHeaderBytes + begin * 4, num_checked * 4).data();
    const std::byte* const pointers = file_.bytes(pointers_begin() + begin * 8, num_checked * 8).data();
    for (std::int64_t idx = 0; idx < num_checked; ++idx) {
      const auto size = load<std::int32_t>(sizes + idx * 4);
      const auto pointer = load<std::int64_t>(pointers + idx * 8);
      if (size < 0 || size > most_tokens - num_tokens_)
        refuse(fmt::format("sizes[{}]", begin + idx), fmt::format("is {} tokens", size),
               "0 to 2147483647 are allowed, and 2^63 bytes in all");
      if (pointer != num_tokens_ * bytes)
        refuse(fmt::format("pointers[{}]", begin + idx), fmt::format("is byte {}", pointer),
               fmt::format("the sequence before it ends at {}", num_tokens_ * bytes));
      num_tokens_ += size;
    }
  }
}

void MegatronIndex::check_documents() const {
  std::int64_t before = 0;
  for (std::int64_t begin = 0; begin < num_entries_; begin += kChecked) {
    const std::int64_t num_checked = std::min(kChecked, num_entries_ - begin);
    const std::byte* const documents = file_.bytes(documents_begin() + begin * 8, num_checked * 8).data();
    for (std::int64_t idx = 0; idx < num_checked; ++idx) {
      const auto document = load<std::int64_t>(documents + idx * 8);
      const bool is_first = begin + idx == 0, is_last = begin + idx == num_entries_ - 1;
      const std::int64_t least = is_last ? num_sequences_ : before;
      const std::int64_t most = is_first ? 0 : num_sequences_;
      if (document < least || document > most)
        refuse(
            fmt::format("documents[{}]", begin + idx), fmt::format("is sequence {}", document),
            least >= most ? fmt::format("it has to be {}", least) : fmt::format("{} to {} are allowed", least, most));
      before = document;
    }
  }
}

// Whatever the file holds by now, only what lies in it is read.
std::int64_t MegatronIndex::document_begin(std::int64_t document_idx) const {
  assert(document_idx >= 0 && document_idx <= num_documents());
  const auto sequence = load<std::int64_t>(file_.bytes(documents_begin() + document_idx * 8, 8).data());
  if (sequence == num_sequences_) return num_tokens_;
  std::int64_t token = -1;
  if (sequence >= 0 && sequence < num_sequences_)
    token = load<std::int64_t>(file_.bytes(pointers_begin() + sequence * 8, 8).data()) / bytes_per_token(type_);
  if (token < 0 || token > num_tokens_)
    refuse(fmt::format("documents[{}]", document_idx), "was changed since the file was opened",
           "it must not be changed while it is in use");
  return token;
}

}  // namespace msmoe::executor
