// Whether a timeline is one that the job allows: checked from the definitions in engine.h, slowly, and with no code of
// the engine's.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "simulator/engine.h"

namespace msmoe::simulator {

// The SMs that a tiled kernel uses at rate 1 beside holders of `held`: what makes it take W(1 - H) + 1 waves instead of
// W(1), where it has more tiles than there are free SMs.
inline double share_beside(const Task& task, int resource, double held) {
  const double share = task.share[resource], tiles = task.tiles_per_sm, free = 1 - held;
  if (resource != kSm || task.holder || tiles <= 0 || held <= 0 || free <= 0 || tiles <= free) return share;
  const auto waves = [&](double part) { return std::ceil(tiles / part - 1e-4); };
  return share > 0 ? std::max(share, free * (waves(free) + 1) / waves(1)) : 0;
}

// What is left to task i of a resource that it uses. It sees the SMs of holders as taken whatever their rates, unless
// it is a holder itself: then it sees holders alone, at their rates.
inline double left_to(std::size_t i, const std::vector<const Task*>& tasks, const std::vector<double>& rates,
                      int resource, bool in_waves) {
  double left = 1, all_held = 0;
  for (const Task* task : tasks)
    if (task->holder) all_held += task->share[kSm];
  for (std::size_t j = 0; j < tasks.size(); ++j) {
    if (resource == kSm && tasks[i]->holder && !tasks[j]->holder) continue;
    const bool held = resource == kSm && tasks[j]->holder && !tasks[i]->holder;
    left -= share_beside(*tasks[j], resource, in_waves ? all_held : 0) * (held ? 1 : rates[j]);
  }
  return left;
}

inline double least_left_to(std::size_t i, const std::vector<const Task*>& tasks, const std::vector<double>& rates,
                            bool in_waves) {
  double least = 1;
  for (int r = 0; r < kNumResources; ++r) {
    if (tasks[i]->share[r] > 0) least = std::min(least, left_to(i, tasks, rates, r, in_waves));
  }
  return least;
}

// The highest rate of task i: how much those beside it slow it (core/contention.h).
inline double naive_limit(std::size_t i, const std::vector<const Task*>& tasks) {
  double crowds = 0, presses = 0;
  for (std::size_t j = 0; j < tasks.size(); ++j) {
    crowds += j == i ? 0 : static_cast<double>(tasks[j]->interference.crowds);
    presses += j == i ? 0 : static_cast<double>(tasks[j]->interference.presses);
  }
  const Interference& of = tasks[i]->interference;
  const double wire = std::pow(of.wire, 3), stretched = std::pow(1 + of.waits * crowds, 3);
  return 1 / ((1 + of.yields * presses) * std::cbrt(wire + (1 - wire) * stretched));
}

// Max-min fair rates by bisection: the highest common rate of the tasks that may still rise; then those that use a
// resource which that fills are settled.
inline std::vector<double> naive_rates(const std::vector<const Task*>& tasks) {
  std::vector<double> rates(tasks.size(), 1);
  std::vector<std::size_t> rising;
  for (std::size_t i = 0; i < tasks.size(); ++i) rising.push_back(i);
  bool in_waves = false;  // where all fits as it is, nothing is in the way of a kernel's tiles
  const auto fits_at = [&](double level, double tolerance) {
    for (std::size_t i : rising) rates[i] = std::min(level, naive_limit(i, tasks));
    return std::all_of(rising.begin(), rising.end(),
                       [&](std::size_t i) { return least_left_to(i, tasks, rates, in_waves) >= -tolerance; });
  };
  std::fill(rates.begin(), rates.end(), 1);
  const bool all_fit = std::all_of(rising.begin(), rising.end(),
                                   [&](std::size_t i) { return least_left_to(i, tasks, rates, in_waves) >= -1e-6; });
  if (fits_at(1, 1e-6) && all_fit) return rates;
  in_waves = true;
  while (!rising.empty() && !fits_at(1, 1e-13)) {
    double low = 0, high = 1;
    for (int step = 0; step < 60; ++step) (fits_at((low + high) / 2, 1e-13) ? low : high) = (low + high) / 2;
    fits_at(low, 0);
    std::erase_if(rising, [&](std::size_t i) { return least_left_to(i, tasks, rates, in_waves) < 1e-9; });
  }
  return rates;
}

class TimelineChecker {
 public:
  // runs: in the order in which the engine reported them.
  TimelineChecker(const Job& job, const std::vector<TaskRun>& runs) : job_(job), runs_(runs) {
    for (const TaskRun& run : runs_) {
      if (!run_of_.emplace(std::tuple(run.device, run.slot, run.task), &run).second) wrong("{} ran twice", run);
    }
  }

  // What is wrong; empty if nothing is.
  const std::vector<std::string>& check() {
    check_order_of_reports();
    if (check_all_ran()) {
      check_starts();
      for (std::size_t d = 0; d < job_.devices.size(); ++d) check_rates(static_cast<std::int32_t>(d));
    }
    return wrongs_;
  }

 private:
  void wrong(const char* what, const TaskRun& run) {
    const std::string name =
        fmt::format("device {} slot {} task {} [{}, {}]", run.device, run.slot, run.task, run.start_ps, run.end_ps);
    wrongs_.push_back(fmt::format(fmt::runtime(what), name));
  }

  const Task& task_of(const TaskRun& run) const {
    return job_.blocks[job_.devices[run.device][run.slot]].tasks[run.task];
  }

  void check_order_of_reports() {
    for (std::size_t i = 1; i < runs_.size(); ++i) {
      if (runs_[i].end_ps < runs_[i - 1].end_ps) wrong("{} reported late", runs_[i]);
    }
  }

  bool check_all_ran() {
    std::size_t expected = 0;
    for (const std::vector<std::int32_t>& slots : job_.devices) {
      for (std::int32_t block : slots) expected += job_.blocks[block].tasks.size();
    }
    if (expected != runs_.size()) wrongs_.push_back(fmt::format("{} tasks ran, of {}", runs_.size(), expected));
    return wrongs_.empty();
  }

  // A task starts at once when its stream is free, its waits have ended and its slot's messages have arrived.
  void check_starts() {
    std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> arrival;  // by device and slot
    for (const Message& message : job_.messages) {
      const TaskRun& sender = *run_of_.at({message.from_device, message.from_slot, message.from_task});
      std::int64_t& latest = arrival[{message.to_device, message.to_slot}];
      latest = std::max(latest, sender.end_ps + message.latency_ps);
    }
    for (std::int32_t d = 0; d < static_cast<std::int32_t>(job_.devices.size()); ++d) {
      std::array<std::int64_t, kMaxStreams> free{};
      for (std::int32_t s = 0; s < static_cast<std::int32_t>(job_.devices[d].size()); ++s) {
        const Block& block = job_.blocks[job_.devices[d][s]];
        for (std::int32_t t = 0; t < static_cast<std::int32_t>(block.tasks.size()); ++t) {
          const TaskRun& run = *run_of_.at({d, s, t});
          std::int64_t earliest = std::max(free[block.tasks[t].stream], arrival[{d, s}]);
          if (static_cast<std::size_t>(t) < block.waits.size()) {
            for (std::int32_t wait : block.waits[t]) earliest = std::max(earliest, run_of_.at({d, s, wait})->end_ps);
          }
          if (run.start_ps < earliest) wrong("{} started too early", run);
          if (run.start_ps > earliest) wrong("{} started too late", run);
          if (run.end_ps - run.start_ps < block.tasks[t].alone_ps) wrong("{} ran faster than alone", run);
          free[block.tasks[t].stream] = run.end_ps;
        }
      }
    }
  }

  // Between two events the set of running tasks is fixed, and so are their rates. What a task is served over its run
  // must be its time alone, up to the rounding of its end to a tick.
  void check_rates(std::int32_t device) {
    std::vector<const TaskRun*> runs;
    std::vector<std::int64_t> times;
    for (const TaskRun& run : runs_) {
      if (run.device != device || run.start_ps == run.end_ps) continue;
      runs.push_back(&run);
      times.insert(times.end(), {run.start_ps, run.end_ps});
    }
    std::sort(times.begin(), times.end());
    times.erase(std::unique(times.begin(), times.end()), times.end());
    std::map<const TaskRun*, double> served;
    for (std::size_t i = 0; i + 1 < times.size(); ++i) {
      std::vector<const TaskRun*> now;
      std::vector<const Task*> tasks;
      for (const TaskRun* run : runs) {
        if (run->start_ps > times[i] || run->end_ps <= times[i]) continue;
        now.push_back(run);
        tasks.push_back(&task_of(*run));
      }
      const std::vector<double> rates = naive_rates(tasks);
      for (std::size_t j = 0; j < now.size(); ++j) {
        served[now[j]] += rates[j] * static_cast<double>(times[i + 1] - times[i]);
      }
    }
    for (const TaskRun* run : runs) {
      const double excess = served[run] - static_cast<double>(task_of(*run).alone_ps);
      if (excess < -kTicks) wrong("{} was served too little", *run);
      if (excess > kTicks) wrong("{} was served too much", *run);
    }
    check_capacity(runs);
  }

  // Whatever the rates were, the work done by any time cannot exceed what each resource gave.
  void check_capacity(const std::vector<const TaskRun*>& runs) {
    for (int r = 0; r < kNumResources; ++r) {
      double work = 0;
      for (const TaskRun* run : runs) {  // in order of their ends
        work += static_cast<double>(task_of(*run).alone_ps) * task_of(*run).share[r];
        if (work > static_cast<double>(run->end_ps) * (1 + 1e-6) + kTicks) wrong("{} ends over capacity", *run);
      }
    }
  }

  static constexpr double kTicks = 2;

  const Job& job_;
  const std::vector<TaskRun>& runs_;
  std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, const TaskRun*> run_of_;
  std::vector<std::string> wrongs_;
};

}  // namespace msmoe::simulator
