// ProcessPlace: which of the job's processes this one is, as its launcher says in the environment.
//
//   torchrun   RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT. The job's own launcher
//              (supervisor.h) sets these too. Where torchrun itself listens on MASTER_PORT
//              (TORCHELASTIC_USE_AGENT_STORE), the port beside it is taken.
//   Open MPI   OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE. Over several hosts MASTER_ADDR is needed, unless
//              Slurm names them; the port is MASTER_PORT, or made of the job's name.
//   Slurm      a process of srun, which sets SLURM_STEP_ID: SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID,
//              SLURM_STEP_TASKS_PER_NODE or SLURM_NTASKS_PER_NODE, SLURM_STEP_NODELIST or SLURM_JOB_NODELIST. The port
//              is made of job and step; MASTER_ADDR and MASTER_PORT count where they are set.
//   none       a process of its own. A batch script that Slurm runs, and what it starts without srun, is one too.
//
// They are looked for in this order, for mpirun and torchrun run inside Slurm's allocations.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace msmoe::executor {

enum class Launcher { none, torchrun, open_mpi, slurm };

struct ProcessPlace {
  Launcher launcher = Launcher::none;
  int rank = 0, num_ranks = 1;
  int local_rank = 0, ranks_on_host = 1;
  std::string host = "127.0.0.1";  // where rank 0 listens
  int port = 0;                    // 0 only where there is one rank
  std::string job;                 // differs between jobs, and between attempts at one; may be empty
  int listener = -1;               // an inherited socket that listens on port already; -1: none
};

// The value of an environment variable; nothing where it is not set.
using Lookup = std::function<std::optional<std::string>(const std::string& name)>;

// A UserError, which names the variable and what is allowed, where one is missing, is no number, or contradicts
// another.
ProcessPlace find_process_place(const Lookup& variable);

// Of this process.
std::optional<std::string> environment_variable(const std::string& name);

// The environment variable with which the supervisor hands rank 0 a listening socket.
inline constexpr const char* kListenerVariable = "MSMOE_LISTENER";

}  // namespace msmoe::executor
