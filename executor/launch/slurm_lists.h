// The two compressed lists that Slurm puts into the environment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace msmoe::executor {

// The first host of a list such as "login,gpu[003-007,12]-ib,x1": here "login", and "gpu003-ib" of the second. Nothing
// where it cannot be read.
std::optional<std::string> first_host(std::string_view host_list);

// How many tasks node node_idx has by a list such as "8(x3),4": 8, 8, 8, 4. Nothing where it cannot be read or has no
// such node.
std::optional<std::int64_t> tasks_on_node(std::string_view task_list, std::int64_t node_idx);

}  // namespace msmoe::executor
