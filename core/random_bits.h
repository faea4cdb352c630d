// Bits that look random and depend on a key and nothing else, so that every machine draws the same.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace msmoe {

// SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
constexpr std::uint64_t mix_bits(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

inline constexpr std::uint64_t kSplitMixStep = 0x9e3779b97f4a7c15ULL;

// draw_key({s}) is the first draw of a SplitMix64 seeded with s; every further part is mixed into what came before it.
constexpr std::uint64_t draw_key(std::initializer_list<std::uint64_t> parts) {
  std::uint64_t key = 0;
  for (const std::uint64_t part : parts) key = mix_bits(key + kSplitMixStep + part);
  return key;
}

// FNV-1a: the same on every machine, and with every standard library.
constexpr std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char character : text) hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace msmoe
