// What a whole training run costs: days, GPU-hours, money and energy, with the failures of its hardware.
//
// Failures come at random with a mean time M between those of the job. Of one segment of useful time t and the writing
// w of the checkpoint behind it, with a restart R that reads the last checkpoint again (Daly, "A higher order estimate
// of the optimum checkpoint interval for restart dumps", Future Generation Computer Systems 22, 2006):
//
//     wall time      T = M exp(R / M) (exp((t + w) / M) - 1)
//     failures       k = exp((t + w) / M) - 1, and more while restarting
//     restarts       k M (exp(R / M) - 1)
//     rework         k M - (t + w), which is half a segment a failure while failures are rare
//     goodput        t / T
//
// The best t is sqrt(2 w M)(1 + sqrt(w / 2M) / 3 + w / 18M) - w where w < 2M, and M otherwise (equation 37).
#pragma once

#include <optional>

#include "core/cluster.h"
#include "simulator/prediction.h"

namespace msmoe::simulator {

struct Goodput {
  Bytes checkpoint;             // parameters, master weights and moments, once
  double write_seconds = 0;     // of a checkpoint, by all nodes at once; reading takes as long
  double interval_seconds = 0;  // useful time between checkpoints: the cluster's or the best, a step at least
  double mtbf_seconds = 0;      // mean time between failures of the job
  double goodput = 0;           // useful share of the wall time; 0: it never gets on
  double checkpoint_share = 0;  // of the wall time, like the next two; all four add up to 1
  double rework_share = 0;
  double restart_share = 0;
};
// None where the cluster does not state failures, restart_time and checkpoint_bandwidth.
std::optional<Goodput> goodput(const Prediction& prediction, const Cluster& cluster);

// By Daly's estimate. REQUIRES write_seconds and mtbf_seconds above 0.
double best_checkpoint_interval(double write_seconds, double mtbf_seconds);

struct RunCost {
  double days = 0, gpu_hours = 0;  // at the predicted speed throughout
  std::optional<double> usd;       // where the cluster states a price
  std::optional<Goodput> goodput;
  // Wall time; none without a goodput, or where that is 0.
  std::optional<double> days_with_failures, gpu_hours_with_failures, usd_with_failures;
  // Where the cluster states watts: at full load over the wall time, or over days where failures are not known.
  std::optional<double> energy_mwh;
  std::optional<double> energy_compute_share;  // of it, what GPUs draw while they compute for the first time
};
RunCost run_cost(const Prediction& prediction, const Cluster& cluster, double tokens);

}  // namespace msmoe::simulator
