// Cluster: what the training job runs on. One GPU kind, nodes that are alike, one network.
//
// Values in the files carry their unit as text ("450 GB/s", "80 GiB", "400 Gb/s", "3 us"); a bare number where a
// unit belongs is an error that says what to append. All bandwidths are per GPU (or per NIC) and PER DIRECTION.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/collective_table.h"
#include "core/gpu.h"
#include "core/profile.h"
#include "core/units.h"

namespace msmoe {

struct Cluster {
  std::string name;
  std::string source;  // where the figures come from
  Gpu gpu;
  std::int64_t gpus_per_node = 8;
  BytesPerSecond nvlink;  // per GPU, per direction, to all peers of the node together
  Duration nvlink_latency;
  std::int64_t nics_per_node = 8;
  BytesPerSecond nic;                          // per NIC, per direction
  Duration network_latency;                    // one message, end to end
  double oversubscription = 1;                 // of the network's upper levels; 1: full bisection
  BytesPerSecond pcie;                         // GPU to host memory, per direction
  Bytes host_memory_per_node;                  // 0: not stated
  std::optional<double> price_per_gpu_hour;    // USD
  double node_overhead_watts = 0;              // of a node at full load, beside its GPUs; 0: not stated
  double pue = 1;                              // power of the building over that of its nodes
  std::optional<double> failures_per_gpu_day;  // that stop the job
  std::optional<Duration> restart_time;        // from a failure to the reading of the last checkpoint
  BytesPerSecond checkpoint_bandwidth;         // of one node, to storage; 0: not stated
  Duration checkpoint_interval{};              // useful time between two checkpoints; 0: the best one
  Bytes reserved_memory;                       // CUDA context, kernels and library handles of one process
  // Buffers of one communicator. NCCL keeps a send and a receive buffer of 4 MiB (NCCL_BUFFSIZE) and smaller ones for
  // its other protocols on each of 16 to 32 channels: about 10 MiB a channel, 24 channels (assumed).
  Bytes communicator_memory{240 * kMiB};
  std::vector<CollectiveTable> collectives;  // measured; used in place of the analytic model
  bool gpu_is_hypothetical = false;          // a what-if changed its peaks: no measurement is of it
  OperatorFits fits{};                       // of its profile
  Contention contention;                     // likewise

  // The network bandwidth that one GPU has when all GPUs of its node talk at once.
  BytesPerSecond nic_per_gpu() const {
    return nic * (static_cast<double>(nics_per_node) / static_cast<double>(gpus_per_node));
  }
};

Cluster read_cluster(const std::string& path);
Cluster parse_cluster(const std::string& name, std::string_view json_text);
// A file, or the name of a description that ships (clusters/NAME.json).
Cluster find_cluster(const std::string& name_or_path);

}  // namespace msmoe
