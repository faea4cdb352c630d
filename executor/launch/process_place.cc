#include "executor/launch/process_place.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <system_error>

#include "core/error.h"
#include "core/random_bits.h"
#include "executor/launch/slurm_lists.h"

namespace msmoe::executor {
namespace {

constexpr std::int64_t kMostRanks = 1 << 20;
constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

// Ports made of a job's name: below those that Linux gives to clients (32768 and up).
constexpr std::uint64_t kFirstPort = 15'000, kNumPorts = 15'000;

std::int64_t parse(const std::string& name, const std::string& text, std::int64_t smallest, std::int64_t largest) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < smallest || number > largest)
    throw UserError("", name, fmt::format("is '{}'", excerpt(text)),
                    fmt::format("a whole number from {} to {} is allowed", smallest, largest));
  return number;
}

// The environment of one launcher.
class Variables {
 public:
  Variables(const Lookup& variable, std::string launcher) : variable_(variable), launcher_(std::move(launcher)) {}

  std::string text(const std::string& name) const {
    const auto value = variable_(name);
    if (!value || value->empty()) missing(name);
    return *value;
  }
  std::string text_or(const std::string& name, const std::string& otherwise) const {
    return variable_(name).value_or(otherwise);
  }
  std::int64_t number(const std::string& name, std::int64_t smallest, std::int64_t largest) const {
    return parse(name, text(name), smallest, largest);
  }
  std::int64_t number_or(const std::string& name, std::int64_t largest, std::int64_t otherwise) const {
    return has(name) ? number(name, 0, largest) : otherwise;
  }
  bool has(const std::string& name) const { return !text_or(name, "").empty(); }
  // The first of these that is set, or else the last.
  std::string first_of(std::initializer_list<const char*> names) const {
    for (const char* name : names)
      if (has(name)) return name;
    return *(names.end() - 1);
  }

  [[noreturn]] void missing(const std::string& name) const {
    throw UserError("", name, "is not set",
                    fmt::format("{} started this process, as other variables say, and sets it", launcher_));
  }

 private:
  const Lookup& variable_;
  std::string launcher_;
};

int port_of(std::uint64_t mixed) { return static_cast<int>(kFirstPort + mixed % kNumPorts); }

void read_ranks(ProcessPlace& place, const Variables& variables, const char* rank, const char* num_ranks,
                const char* local_rank) {
  place.num_ranks = static_cast<int>(variables.number(num_ranks, 1, kMostRanks));
  place.rank = static_cast<int>(variables.number(rank, 0, place.num_ranks - 1));
  place.local_rank = static_cast<int>(variables.number(local_rank, 0, place.rank));
}

// A host has at least as many ranks as the local rank says, and no more than there are in all.
void set_ranks_on_host(ProcessPlace& place, const std::string& name, std::int64_t value) {
  place.ranks_on_host = static_cast<int>(parse(name, std::to_string(value), place.local_rank + 1, place.num_ranks));
}

std::string read_host(const Variables& variables, const std::string& name) {
  std::string host = variables.text(name);
  if (host.find_first_of(" \t\n/,[]") != std::string::npos)
    throw UserError("", name, fmt::format("is '{}'", excerpt(host)), "the name or address of one host is allowed");
  return host;
}

int read_port(const Variables& variables) { return static_cast<int>(variables.number("MASTER_PORT", 1, 65535)); }

std::string first_slurm_host(const Variables& variables) {
  const std::string name = variables.first_of({"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"});
  const std::string list = variables.text(name);
  const auto host = first_host(list);
  if (!host)
    throw UserError("", name, fmt::format("is '{}'", excerpt(list)), "a list such as gpu[001-004,7],login is allowed");
  return *host;
}

ProcessPlace from_torchrun(const Lookup& variable) {
  const Variables variables(variable, "torchrun");
  ProcessPlace place{.launcher = Launcher::torchrun};
  read_ranks(place, variables, "RANK", "WORLD_SIZE", "LOCAL_RANK");
  set_ranks_on_host(place, "LOCAL_WORLD_SIZE", variables.number("LOCAL_WORLD_SIZE", 1, kMostRanks));
  place.host = read_host(variables, "MASTER_ADDR");
  place.port = read_port(variables);
  if (variables.text_or("TORCHELASTIC_USE_AGENT_STORE", "") == "True") place.port += place.port < 65535 ? 1 : -1;
  if (variables.has("TORCHELASTIC_RUN_ID"))
    place.job = fmt::format("torchrun {} attempt {}", variables.text("TORCHELASTIC_RUN_ID"),
                            variables.text_or("TORCHELASTIC_RESTART_COUNT", "0"));
  if (place.rank == 0)
    place.listener =
        static_cast<int>(variables.number_or(kListenerVariable, std::numeric_limits<int>::max(), place.listener));
  return place;
}

ProcessPlace from_open_mpi(const Lookup& variable) {
  const Variables variables(variable, "Open MPI");
  ProcessPlace place{.launcher = Launcher::open_mpi};
  read_ranks(place, variables, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK");
  set_ranks_on_host(place, "OMPI_COMM_WORLD_LOCAL_SIZE", variables.number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, kMostRanks));
  const bool slurm_knows = variables.has("SLURM_STEP_NODELIST") || variables.has("SLURM_JOB_NODELIST");
  if (variables.has("MASTER_ADDR")) {
    place.host = read_host(variables, "MASTER_ADDR");
  } else if (place.ranks_on_host < place.num_ranks) {
    if (!slurm_knows)
      throw UserError("", "MASTER_ADDR", "is not set, and mpirun started processes on several hosts",
                      "say -x MASTER_ADDR=HOST with the host of rank 0");
    place.host = first_slurm_host(variables);
  }

  const std::string job = variables.first_of({"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"});
  if (variables.has(job)) place.job = "mpirun " + variables.text(job);
  if (variables.has("MASTER_PORT")) {
    place.port = read_port(variables);
  } else if (!place.job.empty()) {
    place.port = port_of(hash_of(place.job));
  } else {
    throw UserError("", "MASTER_PORT", "is not set, nor is the job's name in PMIX_NAMESPACE",
                    "say -x MASTER_PORT=PORT with a port that is free on the host of rank 0");
  }
  return place;
}

// Tasks on this node: by the step's list where there is one, for --ntasks-per-node is that of the allocation.
void read_slurm_tasks(ProcessPlace& place, const Variables& variables) {
  const std::string name = "SLURM_STEP_TASKS_PER_NODE";
  if (!variables.has(name)) {
    const std::string of_all = "SLURM_NTASKS_PER_NODE";
    return set_ranks_on_host(place, of_all, variables.number(of_all, 1, kMostRanks));
  }
  const std::string list = variables.text(name);
  const std::int64_t node_idx = variables.number("SLURM_NODEID", 0, kMostRanks);
  const auto num_tasks = tasks_on_node(list, node_idx);
  if (!num_tasks)
    throw UserError("", name, fmt::format("is '{}' and says nothing of node {}", excerpt(list), node_idx),
                    "a list such as 8(x3),4 is allowed");
  set_ranks_on_host(place, name, *num_tasks);
}

ProcessPlace from_slurm(const Lookup& variable) {
  const Variables variables(variable, "srun");
  ProcessPlace place{.launcher = Launcher::slurm};
  read_ranks(place, variables, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID");
  read_slurm_tasks(place, variables);
  const std::int64_t job = variables.number("SLURM_JOB_ID", 0, kLargest);
  const std::int64_t step = variables.number("SLURM_STEP_ID", 0, kLargest);
  place.job = fmt::format("Slurm {}.{} attempt {}", job, step, variables.text_or("SLURM_RESTART_COUNT", "0"));
  place.host = variables.has("MASTER_ADDR") ? read_host(variables, "MASTER_ADDR") : first_slurm_host(variables);
  // Steps of one job may run side by side: a prime apart.
  place.port = variables.has("MASTER_PORT")
                   ? read_port(variables)
                   : port_of(static_cast<std::uint64_t>(job) + 7919 * static_cast<std::uint64_t>(step));
  return place;
}

}  // namespace

ProcessPlace find_process_place(const Lookup& variable) {
  const auto is_set = [&](const char* name) { return variable(name).has_value(); };
  if (is_set("RANK") || is_set("LOCAL_RANK")) return from_torchrun(variable);
  if (is_set("OMPI_COMM_WORLD_RANK")) return from_open_mpi(variable);
  if (is_set("SLURM_PROCID") && is_set("SLURM_STEP_ID")) return from_slurm(variable);
  // Scripts set these two for launchers of other kinds; alone they say nothing that could be relied on.
  if (is_set("WORLD_SIZE") || is_set("LOCAL_WORLD_SIZE")) return from_torchrun(variable);
  return {};
}

std::optional<std::string> environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

}  // namespace msmoe::executor
