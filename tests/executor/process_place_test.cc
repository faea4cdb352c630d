// Where a process is, from what each launcher says; made-up environments, no real one.
#include "executor/launch/process_place.h"

#include <gtest/gtest.h>

#include <map>

#include "core/error.h"
#include "executor/launch/slurm_lists.h"

namespace msmoe::executor {
namespace {

using Environment = std::map<std::string, std::string>;

ProcessPlace place_in(const Environment& environment) {
  return find_process_place([&](const std::string& name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  });
}

std::string complaint_of(const Environment& environment) {
  try {
    place_in(environment);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

Environment with(Environment environment, const std::string& name, const std::string& value) {
  environment[name] = value;
  return environment;
}
Environment without(Environment environment, const std::string& name) {
  environment.erase(name);
  return environment;
}

const Environment kTorchrun = {{"RANK", "11"},           {"WORLD_SIZE", "16"},
                               {"LOCAL_RANK", "3"},      {"LOCAL_WORLD_SIZE", "8"},
                               {"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}};
const Environment kSlurm = {{"SLURM_PROCID", "11"},    {"SLURM_NTASKS", "16"},
                            {"SLURM_LOCALID", "3"},    {"SLURM_NTASKS_PER_NODE", "8"},
                            {"SLURM_JOB_ID", "40007"}, {"SLURM_JOB_NODELIST", "gpu[007-008]"},
                            {"SLURM_STEP_ID", "0"}};
const Environment kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_SIZE", "2"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                              {"PMIX_NAMESPACE", "prterun-1234@1"}};

void expect_ranks(const ProcessPlace& place, int rank, int num_ranks, int local_rank, int ranks_on_host) {
  EXPECT_EQ(place.rank, rank);
  EXPECT_EQ(place.num_ranks, num_ranks);
  EXPECT_EQ(place.local_rank, local_rank);
  EXPECT_EQ(place.ranks_on_host, ranks_on_host);
}

TEST(ProcessPlace, AloneWithoutLauncher) {
  const ProcessPlace place = place_in({{"MASTER_ADDR", "left over"}, {"HOME", "/nowhere"}});
  EXPECT_EQ(place.launcher, Launcher::none);
  expect_ranks(place, 0, 1, 0, 1);
}

TEST(ProcessPlace, Torchrun) {
  ProcessPlace place = place_in(kTorchrun);
  EXPECT_EQ(place.launcher, Launcher::torchrun);
  expect_ranks(place, 11, 16, 3, 8);
  EXPECT_EQ(place.host, "node0");
  EXPECT_EQ(place.port, 29500);
  EXPECT_EQ(place.listener, -1);

  Environment elastic = with(kTorchrun, "TORCHELASTIC_RUN_ID", "night");
  elastic["TORCHELASTIC_RESTART_COUNT"] = "2";
  elastic["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  place = place_in(elastic);
  EXPECT_EQ(place.job, "torchrun night attempt 2");
  EXPECT_EQ(place.port, 29501);  // on 29500 torchrun itself listens
}

TEST(ProcessPlace, Slurm) {
  ProcessPlace place = place_in(kSlurm);
  EXPECT_EQ(place.launcher, Launcher::slurm);
  expect_ranks(place, 11, 16, 3, 8);
  EXPECT_EQ(place.host, "gpu007");
  EXPECT_EQ(place.port, 15'000 + 40'007 % 15'000);
  EXPECT_EQ(place.job, "Slurm 40007.0 attempt 0");

  Environment step = with(kSlurm, "SLURM_STEP_TASKS_PER_NODE", "12,4");
  step["SLURM_NODEID"] = "1";
  step["SLURM_STEP_NODELIST"] = "gpu008,login";
  step["MASTER_PORT"] = "1234";
  step["SLURM_STEP_ID"] = "3";
  place = place_in(step);
  EXPECT_EQ(place.ranks_on_host, 4);
  EXPECT_EQ(place.host, "gpu008");
  EXPECT_EQ(place.port, 1234);
  EXPECT_EQ(place.job, "Slurm 40007.3 attempt 0");
}

// A batch script is told of all its tasks, though it is one process.
TEST(ProcessPlace, ABatchScriptIsNoTask) {
  EXPECT_EQ(place_in(without(kSlurm, "SLURM_STEP_ID")).launcher, Launcher::none);
}

TEST(ProcessPlace, OpenMpi) {
  ProcessPlace place = place_in(kOpenMpi);
  EXPECT_EQ(place.launcher, Launcher::open_mpi);
  expect_ranks(place, 1, 2, 1, 2);
  EXPECT_EQ(place.host, "127.0.0.1");
  EXPECT_GE(place.port, 15'000);
  EXPECT_LT(place.port, 30'000);

  Environment hosts = with(kOpenMpi, "OMPI_COMM_WORLD_SIZE", "4");
  EXPECT_EQ(complaint_of(hosts),
            "MASTER_ADDR: is not set, and mpirun started processes on several hosts; say -x MASTER_ADDR=HOST with the "
            "host of rank 0");
  EXPECT_EQ(place_in(with(hosts, "MASTER_ADDR", "a")).host, "a");
  EXPECT_EQ(place_in(with(hosts, "SLURM_JOB_NODELIST", "b[1-2]")).host, "b1");
  EXPECT_TRUE(complaint_of(without(kOpenMpi, "PMIX_NAMESPACE")).starts_with("MASTER_PORT: is not set"));
}

// torchrun and mpirun run inside Slurm's allocations, and say more than it.
TEST(ProcessPlace, TheInnerLauncherCounts) {
  Environment both = kSlurm;
  both.insert(kOpenMpi.begin(), kOpenMpi.end());
  EXPECT_EQ(place_in(both).launcher, Launcher::open_mpi);
  both.insert(kTorchrun.begin(), kTorchrun.end());
  EXPECT_EQ(place_in(both).launcher, Launcher::torchrun);
}

TEST(ProcessPlace, EachMissingVariableIsNamed) {
  for (const Environment* environment : {&kTorchrun, &kSlurm, &kOpenMpi}) {
    for (const auto& [name, value] : *environment) {
      if (name == "OMPI_COMM_WORLD_RANK" || name == "SLURM_PROCID" || name == "SLURM_STEP_ID") continue;
      if (name == "PMIX_NAMESPACE") continue;
      EXPECT_TRUE(complaint_of(without(*environment, name)).starts_with(name + ": is not set")) << name;
    }
  }
  EXPECT_EQ(complaint_of(without(kTorchrun, "RANK")),
            "RANK: is not set; torchrun started this process, as other variables say, and sets it");
  EXPECT_TRUE(complaint_of({{"WORLD_SIZE", "8"}}).starts_with("RANK: is not set"));
}

TEST(ProcessPlace, WhatIsNoNumberOrContradictsIsNamed) {
  for (const char* value : {"", " 1", "1x", "-1", "x", "0x1", "99999999999999999999"})
    EXPECT_TRUE(complaint_of(with(kTorchrun, "RANK", value)).starts_with("RANK: is ")) << value;
  EXPECT_EQ(complaint_of(with(kTorchrun, "RANK", "16")), "RANK: is '16'; a whole number from 0 to 15 is allowed");
  EXPECT_EQ(complaint_of(with(kTorchrun, "LOCAL_RANK", "8")),
            "LOCAL_WORLD_SIZE: is '8'; a whole number from 9 to 16 is allowed");
  EXPECT_EQ(complaint_of(with(kTorchrun, "LOCAL_RANK", "12")),
            "LOCAL_RANK: is '12'; a whole number from 0 to 11 is allowed");
  EXPECT_EQ(complaint_of(with(kTorchrun, "LOCAL_WORLD_SIZE", "32")),
            "LOCAL_WORLD_SIZE: is '32'; a whole number from 4 to 16 is allowed");
  EXPECT_EQ(complaint_of(with(kTorchrun, "WORLD_SIZE", "0")),
            "WORLD_SIZE: is '0'; a whole number from 1 to 1048576 is allowed");
  EXPECT_EQ(complaint_of(with(kTorchrun, "MASTER_PORT", "65536")),
            "MASTER_PORT: is '65536'; a whole number from 1 to 65535 is allowed");
  EXPECT_EQ(complaint_of(with(kTorchrun, "MASTER_ADDR", "tcp://node0")),
            "MASTER_ADDR: is 'tcp://node0'; the name or address of one host is allowed");
  EXPECT_TRUE(complaint_of(with(kSlurm, "SLURM_JOB_NODELIST", "gpu[")).starts_with("SLURM_JOB_NODELIST: is 'gpu['"));
}

TEST(SlurmLists, FirstHost) {
  EXPECT_EQ(first_host("a"), "a");
  EXPECT_EQ(first_host("a,b"), "a");
  EXPECT_EQ(first_host("gpu[003-007,12]-ib,x"), "gpu003-ib");
  EXPECT_EQ(first_host("r[2,4]n[08-11]"), "r2n08");
  EXPECT_EQ(first_host("node-1.cluster"), "node-1.cluster");
  for (const char* list : {"", ",a", "a[", "a[]", "a[-3]", "a[x]", "a b", "a]"})
    EXPECT_EQ(first_host(list), std::nullopt) << list;
}

TEST(SlurmLists, TasksOnNode) {
  for (const auto& [node_idx, tasks] : std::map<int, int>{{0, 8}, {2, 8}, {3, 4}, {4, 2}})
    EXPECT_EQ(tasks_on_node("8(x3),4,2", node_idx), tasks);
  EXPECT_EQ(tasks_on_node("8(x3),4,2", 5), std::nullopt);
  for (const char* list : {"", "x", "8(x", "8(x)", "8(3)", "-8", "8(x2"})
    EXPECT_EQ(tasks_on_node(list, 0), std::nullopt);
}

}  // namespace
}  // namespace msmoe::executor
