// MeshTable: what all plans of one mesh share, computed once.
//
//   per variant             its modules lowered, each timed alone by the engine, and their memory
//   per pipeline            chunk contents, synchronisation and optimizer times
//   per pipeline x variant  memory, a lower bound, and the composed step: cheap, from the two above
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/memory_plan.h"
#include "planner/space.h"
#include "simulator/compose.h"
#include "simulator/module_times.h"

namespace msmoe::planner {

class MeshTable {
 public:
  // question must outlive the table.
  MeshTable(const Question& question, const Mesh& mesh);

  const std::vector<Variant>& variants() const { return variants_; }
  const std::vector<Pipeline>& pipelines() const { return pipelines_; }
  Plan plan(int pipeline_idx, int variant_idx) const;

  // Everything about one plan. Moves on to another pipeline are dear, to another variant cheap: loop variants inside.
  // REQUIRES that the plan is valid, but for is_valid itself.
  class Cursor {
   public:
    explicit Cursor(MeshTable& table);
    void move_to_pipeline(int pipeline_idx);
    void move_to_variant(int variant_idx);
    bool is_valid() const;
    Bytes states();           // weights, gradients and optimizer states of the worst stage; alike for all variants
    StageMemory memory();     // of the worst stage
    std::int64_t bound_ps();  // no more than step_ps()
    std::int64_t step_ps();
    const Plan& plan() const { return plan_; }

   private:
    bool same_content(std::int64_t a, std::int64_t b) const;  // of two virtual stages
    void classify_virtual_stages();
    void find_memory_stages();
    void reset_times();
    std::vector<ModuleParameters> time_synchronisation(const simulator::CostModel& costs);
    void time_optimizers(const std::vector<ModuleParameters>& class_parameters, const simulator::CostModel& costs);
    // Slot times of every virtual stage from those of its modules.
    void fill_slots(const std::vector<simulator::ModuleTimes>& modules);
    // What its modules are, in order, for schedules that part or merge passes.
    std::vector<Stage> stages() const;
    MeshTable& table_;
    Plan plan_;
    int variant_idx_ = -1;
    Contents contents_;
    std::vector<int> class_of_;                // per virtual stage: virtual stages of equal content share a class
    std::vector<int> class_example_;           // a virtual stage of each class
    std::vector<std::int64_t> memory_stages_;  // stages that can be worst: the first of each run of equal contents
    simulator::PipelineTimes times_;
    simulator::Composer composer_;
  };

 private:
  struct OtherSlots;
  struct VariantModules {
    bool lowered = false, timed = false;
    std::int64_t for_stages = 0;  // stages_that_matter() of the plan it was lowered for
    std::vector<ModuleMemory> memory;
    // Alone; what runs beside them is added where a plan is composed.
    std::vector<simulator::ModuleTimes> times;
    std::int64_t send_ps = 0;
    std::shared_ptr<OtherSlots> other_slots;  // of schedules that are not plain
  };
  static std::int64_t stages_that_matter(const Model& model, const Plan& plan);
  VariantModules& modules(int variant_idx, const Plan& plan);
  // With times: most variants are too big for any pipeline, and are never asked.
  const VariantModules& timed_modules(int variant_idx, const Plan& plan);
  // In the order that contents_of() counts them.
  std::vector<Module> lower_modules(const Plan& plan) const;

  const Question& question_;
  Mesh mesh_;
  std::vector<Variant> variants_;
  std::vector<Pipeline> pipelines_;
  // [ZeRO below 2, 2, 3][variant]
  std::array<std::vector<VariantModules>, 3> modules_;
  // The operators lowered last, which are those to be timed next as a rule. To keep all would cost more than to lower
  // some again.
  std::vector<Module> operators_;
  const VariantModules* operators_of_ = nullptr;
};

}  // namespace msmoe::planner
