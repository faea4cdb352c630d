// MegatronIndex: PREFIX.idx, checked. Its layout is in megatron_tokens.h.
#pragma once

#include <cstdint>
#include <string>

#include "executor/data/token_array.h"
#include "executor/mapped_file.h"

namespace msmoe::executor {

class MegatronIndex {
 public:
  // A UserError where anything in it is not as it has to be.
  explicit MegatronIndex(std::string path);

  const std::string& path() const { return file_.path(); }
  TokenType type() const { return type_; }
  std::int64_t num_tokens() const { return num_tokens_; }
  std::int64_t num_documents() const { return num_entries_ - 1; }
  // As TokenSource::document_begin.
  std::int64_t document_begin(std::int64_t document_idx) const;

 private:
  void read_header();
  void check_sequences();
  void check_documents() const;
  std::int64_t pointers_begin() const;   // byte
  std::int64_t documents_begin() const;  // byte
  [[noreturn]] void refuse(const std::string& place, const std::string& message, const std::string& hint) const;

  MappedFile file_;
  TokenType type_{};
  std::int64_t num_sequences_ = 0, num_entries_ = 0, num_tokens_ = 0;
};

}  // namespace msmoe::executor
