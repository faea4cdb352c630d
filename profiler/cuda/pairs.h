// An operator and a transfer at the same time: how much each slows the other down.
#pragma once

#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "profiler/cuda/kernel_trace.h"
#include "profiler/cuda/links.h"

namespace msmoe::profiler {

class Pairs {
 public:
  // Both must outlive this.
  Pairs(Links& links, KernelTrace& trace);
  ~Pairs();

  // Every rank runs the operator of "X beside Y" over and over while all of them run the transfer. Returns the points
  // of "Y beside X" and, last, of "X beside Y": each the time of one run that the other side lasted through, and the
  // time alone. REQUIRES is_pair(of)
  std::vector<Point> measure(const Case& of);

 private:
  struct Rank;
  struct Times;
  Times run(const Case& link, int computes, int transfers);

  Links& links_;
  KernelTrace& trace_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

}  // namespace msmoe::profiler
