// Training systems known by name, and how much slower their kernels and hosts are than the microbenchmarks that the
// cost model rests on. Each scale is fitted once, on the 240-GPU row of Table 3 of MegaScale-MoE (arXiv 2505.11432), to
// three digits. Megatron-LM's row contradicts itself: 39.94 s a step, and 151.1k tokens/s, which is 39.03 s; the scale
// meets the middle of both.
#include <array>

#include "core/error.h"
#include "core/plan.h"

namespace msmoe {
namespace {

const std::array<Software, 3>& table() {
  static const std::array<Software, 3> systems = {{
      {"megascale-moe", 1.12, 1.55e-3, "arXiv 2505.11432 Table 3, MegaScale-MoE on 240 H800 GPUs"},
      {"megatron-lm", 1.2, 1.55e-3, "arXiv 2505.11432 Table 3, Megatron-LM f1f03922 on 240 H800 GPUs"},
      {"kernels", 1.0, 0, "the microbenchmarks themselves"},
  }};
  return systems;
}

}  // namespace

const Software& default_software() { return table().front(); }

const Software& find_software(const std::string& name) {
  for (const Software& software : table())
    if (software.name == name) return software;
  const std::string nearest = nearest_word(name, software_names());
  throw UserError("", "software", "'" + name + "' is not a training system that msmoe knows",
                  (nearest.empty() ? "" : "did you mean '" + nearest + "'? ") + ("allowed: " + join(software_names())));
}

std::vector<std::string> software_names() {
  std::vector<std::string> names;
  for (const Software& software : table()) names.push_back(software.name);
  return names;
}

}  // namespace msmoe
