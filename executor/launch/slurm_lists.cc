#include "executor/launch/slurm_lists.h"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace msmoe::executor {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_character(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

}  // namespace

// Of each bracket the first number counts, with its leading zeros; a host may have several brackets.
std::optional<std::string> first_host(std::string_view host_list) {
  std::string host;
  for (std::size_t at = 0; at < host_list.size() && host_list[at] != ','; ++at) {
    if (host_list[at] != '[') {
      if (!is_name_character(host_list[at])) return std::nullopt;
      host += host_list[at];
      continue;
    }
    const std::size_t close = host_list.find(']', at);
    if (close == std::string_view::npos) return std::nullopt;
    const std::string_view inside = host_list.substr(at + 1, close - at - 1);
    const std::string_view number = inside.substr(0, inside.find_first_of(",-"));
    if (number.empty() || !std::ranges::all_of(number, is_digit)) return std::nullopt;
    host += number;
    at = close;
  }
  if (host.empty()) return std::nullopt;
  return host;
}

std::optional<std::int64_t> tasks_on_node(std::string_view task_list, std::int64_t node_idx) {
  while (!task_list.empty()) {
    const std::size_t comma = std::min(task_list.find(','), task_list.size());
    std::string_view entry = task_list.substr(0, comma);
    task_list.remove_prefix(std::min(comma + 1, task_list.size()));

    std::int64_t num_nodes = 1;
    if (const std::size_t open = entry.find("(x"); open != std::string_view::npos) {
      if (!entry.ends_with(')')) return std::nullopt;
      const auto repeated = whole_number(entry.substr(open + 2, entry.size() - open - 3));
      if (!repeated) return std::nullopt;
      num_nodes = *repeated;
      entry = entry.substr(0, open);
    }
    const auto num_tasks = whole_number(entry);
    if (!num_tasks) return std::nullopt;
    if (node_idx < num_nodes) return num_tasks;
    node_idx -= num_nodes;
  }
  return std::nullopt;
}

}  // namespace msmoe::executor
