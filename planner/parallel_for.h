// Runs work(0) ... work(count - 1) on up to `jobs` threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace msmoe::planner {

inline void parallel_for(int jobs, std::size_t count, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  auto run = [&] {
    for (std::size_t index = next++; index < count; index = next++) work(index);
  };
  std::vector<std::thread> threads;
  for (int thread = 1; thread < std::min<std::int64_t>(jobs, static_cast<std::int64_t>(count)); ++thread)
    threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace msmoe::planner
