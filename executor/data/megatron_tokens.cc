#include "executor/data/megatron_tokens.h"

#include <fmt/format.h>

#include <utility>

#include "core/error.h"
#include "executor/data/megatron_index.h"
#include "executor/data/token_array.h"

namespace msmoe::executor {
namespace {

TokenArray tokens_of(const MegatronIndex& index, const std::string& path, std::int64_t vocabulary_size) {
  auto file = std::make_shared<const MappedFile>(path);
  const std::int64_t bytes = bytes_per_token(index.type());
  if (file->size() % bytes != 0 || file->size() / bytes != index.num_tokens())
    throw UserError(path, "",
                    fmt::format("has {} bytes, but {} announces {} tokens of {} bytes", file->size(), index.path(),
                                index.num_tokens(), bytes),
                    "the two files have to come from one run of the tokenizer");
  return {std::move(file), 0, index.type(), index.num_tokens(), vocabulary_size};
}

class MegatronTokens : public TokenSource {
 public:
  MegatronTokens(const std::string& prefix, std::int64_t vocabulary_size)
      : index_(prefix + ".idx"), tokens_(tokens_of(index_, prefix + ".bin", vocabulary_size)) {}

  const std::string& name() const override { return tokens_.path(); }
  std::int64_t num_tokens() const override { return tokens_.num_tokens(); }
  std::int64_t num_documents() const override { return index_.num_documents(); }
  std::int64_t document_begin(std::int64_t document_idx) const override { return index_.document_begin(document_idx); }
  void copy(std::int64_t first, std::span<std::int32_t> out) const override { tokens_.copy(first, out); }

 private:
  MegatronIndex index_;
  TokenArray tokens_;
};

}  // namespace

std::unique_ptr<TokenSource> open_megatron(const std::string& prefix, std::int64_t vocabulary_size) {
  return std::make_unique<MegatronTokens>(prefix, vocabulary_size);
}

}  // namespace msmoe::executor
