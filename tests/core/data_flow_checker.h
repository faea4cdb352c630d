// A checker of a module's data flow that shares no code with the builder: what is read was written, waited for or kept,
// and how much lives at once.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "core/program.h"

namespace msmoe {

class DataFlow {
 public:
  explicit DataFlow(const Module& module) : module_(module) {}

  void check() {
    check_pass(module_.forward, [&](std::int16_t id) { return !written_by(module_.forward, id); });
    // Backward may read what was kept, and its own input, which no operator of either pass writes.
    check_pass(module_.backward, [&](std::int16_t id) {
      const bool incoming = !written_by(module_.forward, id) && !written_by(module_.backward, id);
      return tensor(id).kept || incoming;
    });
    for (std::size_t id = 0; id < module_.tensors.size(); ++id) {
      if (module_.tensors[id].kept) {
        EXPECT_TRUE(read_by(module_.backward, static_cast<std::int16_t>(id))) << module_.tensors[id].name;
        EXPECT_FALSE(written_by(module_.backward, static_cast<std::int16_t>(id))) << module_.tensors[id].name;
      }
    }
    check_what_passes();
  }

  // A tensor lives from the first operator that writes it to the last that touches it; sums over those that live. What
  // is kept, or passes to the next module, lies elsewhere in both passes. What is held lives to the end.
  double peak(const std::vector<Operator>& pass, const std::set<std::int16_t>& held = {}) const {
    double worst = 0;
    for (std::size_t now = 0; now < pass.size(); ++now) {
      double live = 0;
      for (std::size_t id = 0; id < module_.tensors.size(); ++id) {
        const auto tensor_id = static_cast<std::int16_t>(id);
        const bool lies_elsewhere =
            module_.tensors[id].kept || tensor_id == module_.output || tensor_id == module_.input_gradient;
        bool begun = false, wanted = held.contains(tensor_id);
        for (std::size_t op_idx = 0; op_idx < pass.size(); ++op_idx) {
          const bool writes = holds(pass[op_idx].writes, tensor_id);
          begun |= writes && op_idx <= now;
          wanted |= (writes || holds(pass[op_idx].reads, tensor_id)) && op_idx >= now;
        }
        if (begun && wanted && !lies_elsewhere) live += module_.tensors[id].size.count;
      }
      worst = std::max(worst, live);
    }
    return worst;
  }

 private:
  static bool holds(const std::vector<std::int16_t>& list, std::int16_t id) {
    return std::find(list.begin(), list.end(), id) != list.end();
  }
  static bool written_by(const std::vector<Operator>& pass, std::int16_t id) {
    return std::any_of(pass.begin(), pass.end(), [&](const Operator& op) { return holds(op.writes, id); });
  }
  static bool read_by(const std::vector<Operator>& pass, std::int16_t id) {
    return std::any_of(pass.begin(), pass.end(), [&](const Operator& op) { return holds(op.reads, id); });
  }
  const Tensor& tensor(std::int16_t id) const { return module_.tensors[static_cast<std::size_t>(id)]; }

  // What comes in is written by nobody here and read; what goes out is written last of its pass and read by nobody.
  void check_what_passes() {
    if (module_.input >= 0) {
      EXPECT_FALSE(written_by(module_.forward, module_.input) || written_by(module_.backward, module_.input));
      EXPECT_TRUE(read_by(module_.forward, module_.input));
      EXPECT_TRUE(tensor(module_.input).kept);
    }
    if (module_.output_gradient >= 0) {
      EXPECT_FALSE(written_by(module_.forward, module_.output_gradient) ||
                   written_by(module_.backward, module_.output_gradient));
      EXPECT_TRUE(read_by(module_.backward, module_.output_gradient));
      EXPECT_EQ(tensor(module_.output_gradient).size, tensor(module_.output).size);
    }
    if (module_.output >= 0) expect_goes_out(module_.forward, Pass::kForward, module_.output);
    if (module_.input_gradient >= 0) {
      expect_goes_out(module_.backward, Pass::kBackwardInput, module_.input_gradient);
      EXPECT_EQ(tensor(module_.input_gradient).size, tensor(module_.input).size);
    }
  }
  void expect_goes_out(const std::vector<Operator>& operators, Pass pass, std::int16_t id) {
    const auto last =
        std::find_if(operators.rbegin(), operators.rend(), [&](const Operator& op) { return op.pass == pass; });
    ASSERT_NE(last, operators.rend());
    EXPECT_TRUE(holds(last->writes, id)) << last->name << " does not write " << tensor(id).name;
    EXPECT_FALSE(read_by(operators, id) || tensor(id).kept) << tensor(id).name;
  }

  template <class AtHand>
  void check_pass(const std::vector<Operator>& pass, const AtHand& at_hand_before) {
    for (std::size_t op_idx = 0; op_idx < pass.size(); ++op_idx) {
      const Operator& op = pass[op_idx];
      for (const std::int16_t wait : op.waits) EXPECT_LT(static_cast<std::size_t>(wait), op_idx) << op.name;
      for (const std::int16_t id : op.reads) {
        std::size_t writer = op_idx;
        for (std::size_t earlier = 0; earlier < op_idx; ++earlier)
          if (holds(pass[earlier].writes, id)) writer = earlier;
        if (writer == op_idx) {
          EXPECT_TRUE(at_hand_before(id)) << op.name << " reads " << tensor(id).name << ", which nobody wrote or kept";
        } else {
          EXPECT_TRUE(holds(op.waits, static_cast<std::int16_t>(writer)))
              << op.name << " does not wait for " << pass[writer].name;
        }
      }
    }
  }

  const Module& module_;
};

}  // namespace msmoe
