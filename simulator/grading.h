// Grading: which evidence each part of a prediction rests on, and the interval of the step that follows.
//
// Let part i take p_i of the step and its evidence leave it u_i of itself, all of it off the same way; parts are off
// independently of each other. The speed of the training system, u_s, is off for all that computes and waits for it,
// c in sum. The step is then off by the factor 1 + u up or down,
//
//     u = sqrt(sum of (p_i u_i)^2 + (c u_s)^2) / step
//
// with 80 % chance, each u being half of an 80 % interval. The low end stays above the model's FLOPs at the GPUs' peak.
#pragma once

#include "core/cluster.h"
#include "core/program.h"
#include "simulator/prediction.h"

namespace msmoe::simulator {

// Fills evidence and step_low, step_high. REQUIRES all else of the prediction.
void grade(Prediction& prediction, const Program& program, const Cluster& cluster);
// The second half of it, for a step and parts that are others now.
void set_interval(Prediction& prediction);

}  // namespace msmoe::simulator
