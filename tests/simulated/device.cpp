// A simulated accelerator behind torch's PrivateUse1 key: several devices, whose memory is the host's.
//
// It is as strict as hardware: tensors of two devices do not mix in one op, nor with those of the CPU but for
// numbers, and memory is shared between streams only in an order that waits make (clocks.h). What it has no kernel
// for, which is nearly all, the CPU computes; but not ops that only a CPU has.
#include "clocks.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <chrono>
#include <cstdlib>

namespace simulated {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;

thread_local int current_device = 0;
thread_local std::array<c10::StreamId, kDevices> current_streams{};
thread_local bool on_the_cpu = false;  // within an op that the CPU computes: its copies are no work of a stream

c10::Device checked(c10::Device device) {
  int index = device.has_index() ? device.index() : current_device;
  TORCH_CHECK(index >= 0 && index < kDevices, "there is no simulated device ", index, "; there are ", kDevices);
  return c10::Device(kType, static_cast<c10::DeviceIndex>(index));
}

int current_number(int device) {
  return number(device, current_streams[device]);
}

int number_of(const c10::Stream& stream) {
  return number(checked(stream.device()).index(), stream.id());
}

// --- memory ---------------------------------------------------------------------------------------------------

void give_back(void* data) {
  Watch::get().freed(data);
  std::free(data);
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    c10::Device device(kType, static_cast<c10::DeviceIndex>(current_device));
    void* data = bytes == 0 ? nullptr : std::malloc(bytes);
    TORCH_CHECK(bytes == 0 || data != nullptr, "simulated device out of memory: ", bytes, " bytes");
    if (data != nullptr) {
      std::memset(data, 0xff, bytes);  // what was never written is NaN
      Watch::get().allocated(data, current_number(current_device));
    }
    return {data, data, &give_back, device};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &give_back;
  }
  void copy_data(void* target, const void* source, size_t bytes) const override {
    default_copy_data(target, source, bytes);
  }
};

Memory memory;

// --- devices, streams, events ---------------------------------------------------------------------------------

struct Event {
  Clock clock;
  c10::DeviceIndex device;
  double time;
};

double now() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return kType;
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override {
    return {kType, static_cast<c10::DeviceIndex>(current_device)};
  }
  void setDevice(c10::Device device) const override {
    current_device = checked(device).index();
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    current_device = device.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    device = checked(device);
    return c10::Stream(c10::Stream::UNSAFE, device, current_streams[device.index()]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, checked(device));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    return getNewStream(device, 0);
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    static std::array<std::atomic<int>, kDevices> handed_out{};
    device = checked(device);
    return c10::Stream(c10::Stream::UNSAFE, device, 1 + handed_out[device.index()]++ % (kStreams - 1));
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    c10::Stream before = getStream(stream.device());
    current_streams[stream.device_index()] = stream.id();
    return before;
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex device,
              const c10::EventFlag) const override {
    TORCH_CHECK(device == -1 || device == stream.device_index(), "an event of device ", int(device),
                " is recorded on a stream of device ", int(stream.device_index()));
    if (*event == nullptr) {
      *event = new Event{{}, stream.device_index(), 0};
    }
    auto* made = static_cast<Event*>(*event);
    made->clock = Watch::get().record(number_of(stream));
    made->time = now();
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event != nullptr) {
      Watch::get().wait(number_of(stream), static_cast<Event*>(event)->clock);
    }
  }
  bool queryEvent(void*) const override {
    return true;
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) {
      Watch::get().host_waits(static_cast<Event*>(event)->clock);
    }
  }
  double elapsedTime(void* first, void* second, const c10::DeviceIndex) const override {
    return static_cast<Event*>(second)->time - static_cast<Event*>(first)->time;
  }
  bool queryStream(const c10::Stream&) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    Watch::get().host_waits(number_of(stream));
  }
  void synchronizeDevice(const c10::DeviceIndex device) const override {
    for (int i = 0; i < kStreams; ++i) {
      Watch::get().host_waits(number(device, i));
    }
  }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    Watch::get().declare(data.get(), number_of(stream));
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return kDevices;
  }
};

at::Generator& generator(int device) {
  static std::array<at::Generator, kDevices> generators = [] {
    std::array<at::Generator, kDevices> made;
    for (auto& one : made) {
      one = at::detail::createCPUGenerator();
    }
    return made;
  }();
  return generators[checked({kType, static_cast<c10::DeviceIndex>(device)}).index()];
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return kDevices;
  }
  void setCurrentDevice(c10::DeviceIndex device) const override {
    Guard().setDevice({kType, device});
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return static_cast<c10::DeviceIndex>(current_device);
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return Guard().exchangeDevice({kType, device}).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return device < 0 ? getCurrentDevice() : exchangeDevice(device);
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override {
    return generator(device < 0 ? current_device : device);
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    c10::DeviceGuard guard(storage.device());
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), bytes);
  }
};

// --- kernels --------------------------------------------------------------------------------------------------

bool is_ours(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kType;
}

const void* block_of(const at::Tensor& tensor) {
  return tensor.storage().data();
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(checked(device.value_or(c10::Device(kType))));
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  c10::DeviceGuard guard(checked(device.value_or(c10::Device(kType))));
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor as_host(const at::Tensor& tensor) {
  if (!is_ours(tensor)) {
    return tensor;
  }
  auto seen = at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                            tensor.options().device(c10::DeviceType::CPU));
  seen._set_conj(tensor.is_conj());
  seen._set_neg(tensor.is_neg());
  return seen;
}

void watch_copy(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (is_ours(from) && is_ours(to)) {
    int source = current_number(from.device().index()), target = current_number(to.device().index());
    Watch::get().copy(source, target, block_of(from), block_of(to));
  } else if (is_ours(to)) {
    Watch::get().work(current_number(to.device().index()), "a copy from the host", {}, {block_of(to)});
  } else {
    int stream = current_number(from.device().index());
    Watch::get().work(stream, "a copy to the host", {block_of(from)}, {});
    if (!non_blocking) {
      Watch::get().host_waits(stream);
    }
  }
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (!on_the_cpu) {
    watch_copy(from, to, non_blocking);
  }
  at::AutoDispatchBelowAutograd below;
  as_host(to).copy_(as_host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar_dense(const at::Tensor& tensor) {
  watch_copy(tensor, as_host(tensor), false);
  at::AutoDispatchBelowAutograd below;
  return as_host(tensor).item();
}

const at::Tensor& resize(const at::Tensor& tensor, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(tensor.device());
  return at::native::resize_(tensor, C10_AS_INTARRAYREF_SLOW(size), format);
}

at::Tensor as_strided(const at::Tensor& tensor, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  std::optional<int64_t> start;
  if (offset.has_value()) {
    start = offset->guard_int(__FILE__, __LINE__);
  }
  return at::native::as_strided_tensorimpl(tensor, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                                           start);
}

at::Tensor view(const at::Tensor& tensor, c10::SymIntArrayRef size) {
  return at::native::view(tensor, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(const at::Tensor& tensor, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(tensor, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor unfold(const at::Tensor& tensor, int64_t dim, int64_t size, int64_t step) {
  return at::native::unfold(tensor, dim, size, step);
}

at::Tensor& set_storage(at::Tensor& tensor, c10::Storage storage, c10::SymInt offset, c10::SymIntArrayRef size,
                        c10::SymIntArrayRef stride) {
  return at::native::set_storage_cpu_(tensor, std::move(storage), offset.guard_int(__FILE__, __LINE__),
                                      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor& set_whole_storage(at::Tensor& tensor, c10::Storage storage) {
  return at::native::set_(tensor, std::move(storage));
}

at::Tensor& set_tensor(at::Tensor& tensor, const at::Tensor& source) {
  return at::native::set_tensor_(tensor, source);
}

void record_stream(at::Tensor& tensor, at::Stream stream) {
  Watch::get().declare(block_of(tensor), number_of(stream));
}

int64_t fused_sdp_choice(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                         double, bool, std::optional<double>, bool) {
  return 0;  // no fused attention: the ops that it is made of
}

// --- which devices an op is given ---------------------------------------------------------------------------------

std::vector<at::Tensor> tensors_in(const c10::IValue& value) {
  std::vector<at::Tensor> found;
  if (value.isTensor()) {
    found.push_back(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue item : value.toListRef()) {
      if (item.isTensor()) {
        found.push_back(item.toTensor());
      }
    }
  }
  return found;
}

bool takes_host_indices(const std::string& name) {
  return name.find("index") != std::string::npos;
}

// The device of the tensors among the arguments; an error if there are several.
std::optional<c10::Device> common_device(const std::string& name, const std::vector<at::Tensor>& tensors) {
  std::optional<c10::Device> common;
  for (const auto& tensor : tensors) {
    if (is_ours(tensor)) {
      TORCH_CHECK(!common.has_value() || *common == tensor.device(), "Expected all tensors to be on the same device, ",
                  "but found at least two devices, ", *common, " and ", tensor.device(), "! (in ", name, ")");
      common = tensor.device();
    }
  }
  for (const auto& tensor : tensors) {
    bool mixed = common.has_value() && tensor.defined() && !is_ours(tensor) && tensor.dim() > 0;
    TORCH_CHECK(!mixed || takes_host_indices(name), "Expected all tensors to be on the same device, ",
                "but found at least two devices, ", *common, " and ", tensor.device(), "! (in ", name, ")");
  }
  return common;
}

// --- convolutions: torch asks every new backend for kernels of its own --------------------------------------------

at::Tensor to_device(const at::Tensor& host, c10::Device device) {
  if (!host.defined()) {
    return host;
  }
  auto there = empty_strided(host.sizes(), host.strides(), host.scalar_type(), {}, device, {});
  Watch::get().work(current_number(device.index()), "a convolution", {}, {block_of(there)});
  as_host(there).copy_(host);
  return there;
}

c10::Device begin_convolution(const std::vector<at::Tensor>& tensors) {
  auto device = common_device("a convolution", tensors).value();
  std::vector<const void*> reads;
  for (const auto& tensor : tensors) {
    if (tensor.defined()) {
      reads.push_back(block_of(tensor));
    }
  }
  Watch::get().work(current_number(device.index()), "a convolution", reads, {});
  return device;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  auto added = bias.value_or(at::Tensor());
  auto device = begin_convolution({input, weight, added});
  at::AutoDispatchBelowAutograd below;
  auto host = at::convolution(as_host(input), as_host(weight), added.defined() ? as_host(added) : added, stride,
                              padding, dilation, transposed, output_padding, groups);
  return to_device(host, device);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> mask) {
  auto device = begin_convolution({gradient, input, weight});
  at::AutoDispatchBelowAutograd below;
  auto [a, b, c] = at::convolution_backward(as_host(gradient), as_host(input), as_host(weight),
                                            c10::IntArrayRef{weight.size(transposed ? 1 : 0) * (transposed ? groups : 1)},
                                            stride, padding, dilation, transposed, output_padding, groups, mask);
  return {to_device(a, device), to_device(b, device), to_device(c, device)};
}

// --- all the rest ---------------------------------------------------------------------------------------------

void refuse_ops_of_the_cpu(const std::string& name) {
  bool only = name.find("_for_cpu") != std::string::npos || name.find("mkldnn") != std::string::npos;
  TORCH_CHECK_NOT_IMPLEMENTED(!only, name, " is an op of the CPU; a simulated device has no kernel for it");
}

void note_use(const c10::OperatorHandle& op, c10::Device device, at::ArrayRef<c10::IValue> arguments) {
  std::vector<const void*> reads, writes;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto* alias = op.schema().arguments()[i].alias_info();
    bool written = alias != nullptr && alias->isWrite();
    for (const auto& tensor : tensors_in(arguments[i])) {
      if (is_ours(tensor)) {
        (written ? writes : reads).push_back(block_of(tensor));
      }
    }
  }
  Watch::get().work(current_number(device.index()), op.schema().name(), reads, writes);
}

// Random ops draw from the generator of their device.
void lend_generator(const c10::OperatorHandle& op, c10::Device device, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = torch::jit::peek(*stack, i, arguments.size());
    if (arguments[i].name() == "generator" && value.isNone()) {
      value = generator(device.index());
    }
  }
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  std::vector<at::Tensor> tensors;
  for (const auto& argument : arguments) {
    auto found = tensors_in(argument);
    tensors.insert(tensors.end(), found.begin(), found.end());
  }
  auto device = common_device(name, tensors);
  refuse_ops_of_the_cpu(name);
  std::optional<c10::DeviceGuard> guard;
  if (device.has_value()) {
    guard.emplace(*device);
    note_use(op, *device, arguments);
    lend_generator(op, *device, stack);
  }
  struct Within {
    bool before = std::exchange(on_the_cpu, true);
    ~Within() {
      on_the_cpu = before;
    }
  } within;
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

// --- what Python asks -----------------------------------------------------------------------------------------

std::vector<std::string> take_faults() {
  return Watch::get().take_faults();
}

int64_t exchange_device(int64_t device) {
  return Guard().exchangeDevice({kType, static_cast<c10::DeviceIndex>(device)}).index();
}

int64_t current() {
  return current_device;
}

int64_t device_count() {
  return kDevices;
}

void manual_seed(int64_t device, int64_t seed) {
  auto one = generator(static_cast<int>(device));
  std::lock_guard<std::mutex> lock(one.mutex());
  one.set_current_seed(static_cast<uint64_t>(seed));
}

at::Tensor get_state(int64_t device) {
  return generator(static_cast<int>(device)).get_state();
}

void set_state(int64_t device, const at::Tensor& state) {
  generator(static_cast<int>(device)).set_state(state);
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar_dense);
  m.impl("resize_", resize);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("unfold", unfold);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Storage", set_whole_storage);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("_fused_sdp_choice", fused_sdp_choice);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
  if (std::getenv("SIMULATED_WITHOUT_RECORD_STREAM") == nullptr) {
    m.impl("record_stream", record_stream);
  }
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY(simulated, m) {
  c10::SetAllocator(kType, &memory);
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  m.def("take_faults() -> str[]", &take_faults);
  m.def("exchange_device(int device) -> int", &exchange_device);
  m.def("current_device() -> int", &current);
  m.def("device_count() -> int", &device_count);
  m.def("manual_seed(int device, int seed) -> ()", &manual_seed);
  m.def("get_state(int device) -> Tensor", &get_state);
  m.def("set_state(int device, Tensor state) -> ()", &set_state);
}

}  // namespace
}  // namespace simulated
