// What happens before what on a simulated accelerator: streams, events and the host as vector clocks.
//
// Kernels run at once, so a wait that is missing changes no result. It is found all the same: every stream counts
// its work and knows how far it has waited for every other one, every block of memory knows who used it last, and
// a use that nothing orders behind the one before is a fault, on every run. A block that is given back while
// another stream may still use it is one too, unless that use was declared (`record_stream`).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace simulated {

constexpr int kDevices = 4;
constexpr int kStreams = 33;  // of each device: the default one, and a pool that is handed out in turn

using Clock = std::array<uint64_t, kDevices * kStreams>;

inline void join(Clock& into, const Clock& other) {
  for (size_t i = 0; i < into.size(); ++i) {
    into[i] = std::max(into[i], other[i]);
  }
}

inline int number(int device, int64_t stream) {
  return device * kStreams + static_cast<int>(stream);
}

inline std::string label(int stream) {
  return "stream " + std::to_string(stream % kStreams) + " of device " + std::to_string(stream / kStreams);
}

struct Block {
  int owner;                      // the stream that it was allocated for
  int writer;                     // the last to write, and when
  uint64_t written;
  std::map<int, uint64_t> reads;  // since then: stream -> when
  std::set<int> declared;         // streams that record_stream named
};

class Watch {
 public:
  static Watch& get() {
    static Watch* watch = new Watch();  // never destroyed: tensors may die later than statics
    return *watch;
  }

  void allocated(const void* data, int stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    blocks_[data] = Block{stream, stream, clocks_[stream][stream], {}, {}};
  }

  void freed(const void* data) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = blocks_.find(data);
    if (found == blocks_.end()) {
      return;
    }
    const Block& block = found->second;
    auto safe = [&](int user, uint64_t when) {
      return user == block.owner || block.declared.count(user) || clocks_[block.owner][user] >= when ||
          host_[user] >= when;
    };
    if (!safe(block.writer, block.written)) {
      fault("memory of " + label(block.owner) + " is freed while " + label(block.writer) + " may still write it");
    }
    for (const auto& [reader, when] : block.reads) {
      if (!safe(reader, when)) {
        fault("memory of " + label(block.owner) + " is freed while " + label(reader) + " may still read it");
      }
    }
    blocks_.erase(found);
  }

  void declare(const void* data, int stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = blocks_.find(data);
    if (found != blocks_.end()) {
      found->second.declared.insert(stream);
    }
  }

  // One piece of work on a stream.
  void work(int stream, const std::string& what, const std::vector<const void*>& reads,
            const std::vector<const void*>& writes) {
    std::lock_guard<std::mutex> lock(mutex_);
    join(clocks_[stream], host_);
    ++clocks_[stream][stream];
    use(stream, what, reads, writes);
  }

  // A copy between devices is ordered with the current streams of both, as torch promises to whoever writes
  // `x.to(there)`: it follows the work of both, and the work that follows on either sees it done.
  void copy(int source, int target, const void* read, const void* written) {
    std::lock_guard<std::mutex> lock(mutex_);
    join(clocks_[source], host_);
    join(clocks_[source], clocks_[target]);
    ++clocks_[source][source];
    clocks_[target] = join_copy(clocks_[target], clocks_[source]);
    ++clocks_[target][target];
    use(source, "a copy", {read}, {});
    use(target, "a copy", {}, {written});
    join(clocks_[source], clocks_[target]);
  }

  Clock record(int stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    ++clocks_[stream][stream];
    return clocks_[stream];
  }

  void wait(int stream, const Clock& event) {
    std::lock_guard<std::mutex> lock(mutex_);
    join(clocks_[stream], event);
  }

  void host_waits(const Clock& event) {
    std::lock_guard<std::mutex> lock(mutex_);
    join(host_, event);
  }

  void host_waits(int stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    join(host_, clocks_[stream]);
  }

  std::vector<std::string> take_faults() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(faults_, {});
  }

 private:
  static Clock join_copy(Clock a, const Clock& b) {
    join(a, b);
    return a;
  }

  void use(int stream, const std::string& what, const std::vector<const void*>& reads,
           const std::vector<const void*>& writes) {
    for (const void* data : reads) {
      if (Block* block = find(data)) {
        follow(stream, what + " reads", block->writer, block->written, "wrote");
        block->reads[stream] = clocks_[stream][stream];
      }
    }
    for (const void* data : writes) {
      if (Block* block = find(data)) {
        follow(stream, what + " writes", block->writer, block->written, "wrote or allocated");
        for (const auto& [reader, when] : block->reads) {
          follow(stream, what + " writes", reader, when, "read");
        }
        block->writer = stream;
        block->written = clocks_[stream][stream];
        block->reads.clear();
      }
    }
  }

  void follow(int stream, const std::string& what, int before, uint64_t when, const char* did) {
    if (stream != before && clocks_[stream][before] < when) {
      fault(what + " on " + label(stream) + " what " + label(before) + " " + did + ", without waiting for it");
    }
  }

  Block* find(const void* data) {
    auto found = blocks_.find(data);
    return found == blocks_.end() ? nullptr : &found->second;
  }

  void fault(const std::string& what) {
    if (faults_.size() < 100) {
      faults_.push_back(what);
    }
  }

  std::mutex mutex_;
  std::array<Clock, kDevices * kStreams> clocks_{};
  Clock host_{};
  std::unordered_map<const void*, Block> blocks_;
  std::vector<std::string> faults_;
};

}  // namespace simulated
