// BufferPool: memory that is used for a while and then again, since a backend does not take back what it allocated.
#pragma once

#include <cstddef>
#include <map>
#include <memory>

#include "executor/backend/backend.h"

namespace msmoe::executor {

class BufferPool {
 public:
  explicit BufferPool(Backend& backend) : backend_(backend) {}
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  struct Return {
    BufferPool* pool = nullptr;
    std::size_t bytes = 0;
    void operator()(std::byte* data) const { pool->free_.emplace(bytes, data); }
  };
  using Buffer = std::unique_ptr<std::byte, Return>;  // goes back to the pool, which has to outlive it

  // The smallest free one that is large enough, with whatever is in it; a new one where there is none.
  Buffer acquire(std::size_t bytes) {
    const auto found = free_.lower_bound(bytes);
    if (found == free_.end()) return Buffer(backend_.allocate(bytes), Return{this, bytes});
    Buffer buffer(found->second, Return{this, found->first});
    free_.erase(found);
    return buffer;
  }

 private:
  Backend& backend_;
  std::multimap<std::size_t, std::byte*> free_;  // by size
};

}  // namespace msmoe::executor
