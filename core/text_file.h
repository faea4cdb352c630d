// Whole files in and out.
#pragma once

#include <string>
#include <string_view>

namespace msmoe {

// The whole file; a UserError where it cannot be read or is over 64 MiB.
std::string read_text_file(const std::string& path);
// Writes to a temporary name beside path, then renames: a reader sees the old file or the new one, never half.
// Throws std::runtime_error (a fault, exit 3) where the disk refuses.
void write_text_file(const std::string& path, std::string_view text);

}  // namespace msmoe
