// TokenSource: the tokens of one data set, all its documents one after the other. The formats are in
// executor/data/*_tokens.h; open_tokens.h tells them apart.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace msmoe::executor {

// Read-only, and safe to use from several threads at once. Positions and counts are in tokens.
class TokenSource {
 public:
  virtual ~TokenSource() = default;

  // How errors call it: the file, as the user named it.
  virtual const std::string& name() const = 0;
  virtual std::int64_t num_tokens() const = 0;  // may be 0
  virtual std::int64_t num_documents() const = 0;

  // The position at which a document begins; that of num_documents() is num_tokens(). Documents may be empty.
  // REQUIRES: 0 <= document_idx <= num_documents(). A UserError where the file was changed since it was opened.
  virtual std::int64_t document_begin(std::int64_t document_idx) const = 0;

  // Writes the tokens [first, first + out.size()), each at least 0 and less than the model's vocabulary.
  // REQUIRES: they lie in [0, num_tokens()). A UserError where the file holds another value, which is looked at only
  // now (a data set may be larger than memory), or where it has become shorter since it was opened.
  virtual void copy(std::int64_t first, std::span<std::int32_t> out) const = 0;
};

}  // namespace msmoe::executor
