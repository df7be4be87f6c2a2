// Runs the golden vectors of this directory with ONNX Runtime, and compares with what has to come out.
//
//   c++ -std=c++17 example.cpp -I ONNXRUNTIME/include -L ONNXRUNTIME/lib -lonnxruntime -o example
//   LD_LIBRARY_PATH=ONNXRUNTIME/lib ./example [FORMAT] [--unoptimized]
//
// ONNXRUNTIME is a release of ONNX Runtime for C and C++, unpacked. FORMAT: qoperator (the default), qdq or lookup, as
// far as it is here. README.md says whether a format needs --unoptimized. Exit code 0: the outputs are right, 1: they
// are not, 2: something could not be read or run.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

// A tensor of ONNX (TensorProto): its fields 1, 2, 8 and 9.
struct Tensor {
  std::string name, bytes;
  std::vector<int64_t> shape;
  int type = 0;
};

static uint64_t number(const std::string& data, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(data.at(at++));
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return value;
  }
  throw std::runtime_error("a number has no end");
}

static Tensor read_tensor(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Tensor tensor;
  for (size_t at = 0; at < data.size();) {
    const uint64_t key = number(data, at);
    const int field = static_cast<int>(key >> 3);
    if ((key & 7) == 0) {
      const uint64_t value = number(data, at);
      if (field == 1) tensor.shape.push_back(static_cast<int64_t>(value));
      if (field == 2) tensor.type = static_cast<int>(value);
    } else if ((key & 7) == 2) {
      const uint64_t size = number(data, at);
      if (size > data.size() - at) throw std::runtime_error(path + " ends too early");
      const std::string part = data.substr(at, size);
      at += size;
      if (field == 1)
        for (size_t inside = 0; inside < part.size();) tensor.shape.push_back(static_cast<int64_t>(number(part, inside)));
      if (field == 8) tensor.name = part;
      if (field == 9) tensor.bytes = part;
    } else {
      throw std::runtime_error(path + " is no tensor of ONNX");
    }
  }
  return tensor;
}

static std::vector<Tensor> tensors(const std::string& folder, const std::string& kind) {
  std::vector<Tensor> found;
  for (int index = 0;; ++index) {
    const std::string path = folder + "/test_data_set_0/" + kind + "_" + std::to_string(index) + ".pb";
    if (!std::ifstream(path)) return found;
    found.push_back(read_tensor(path));
  }
}

// Prints what differs; whether that is less than what sums of floats may miss.
static bool right(const Tensor& wanted, const Ort::Value& found) {
  if (found.GetTensorTypeAndShapeInfo().GetShape() != wanted.shape) {
    std::cout << wanted.name << ": another shape\n";
    return false;
  }
  if (wanted.type != 1) {  // no floats: all bytes
    const bool same = std::memcmp(wanted.bytes.data(), found.GetTensorData<char>(), wanted.bytes.size()) == 0;
    std::cout << wanted.name << (same ? ": the same\n" : ": differs\n");
    return same;
  }
  const size_t count = wanted.bytes.size() / sizeof(float);
  std::vector<float> expected(count);
  std::memcpy(expected.data(), wanted.bytes.data(), count * sizeof(float));
  const float* values = found.GetTensorData<float>();
  size_t differing = 0;
  float apart = 0, largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const float distance = std::fabs(values[i] - expected[i]);
    differing += !(values[i] == expected[i]);
    apart = std::isnan(distance) ? INFINITY : std::max(apart, distance);
    largest = std::max(largest, std::fabs(expected[i]));
  }
  const bool near = apart <= 1e-5f * largest;
  std::cout << wanted.name << ": " << differing << " of " << count << " values differ, by " << apart << " at most"
            << (differing && near ? ": no more than float rounding\n" : "\n");
  return near;
}

static int run(const std::string& format, bool optimized) {
  Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "example");
  Ort::SessionOptions options;
  if (!optimized) options.SetGraphOptimizationLevel(ORT_DISABLE_ALL);
  Ort::Session session(environment, (format + "/model.onnx").c_str(), options);
  const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Tensor> inputs = tensors(format, "input"), outputs = tensors(format, "output");
  if (inputs.empty() || outputs.empty()) throw std::runtime_error(format + "/test_data_set_0 has no golden vectors");
  std::vector<const char*> input_names, output_names;
  std::vector<Ort::Value> values;
  for (Tensor& one : inputs) {
    input_names.push_back(one.name.c_str());
    values.push_back(Ort::Value::CreateTensor(memory, one.bytes.data(), one.bytes.size(), one.shape.data(),
                                              one.shape.size(), static_cast<ONNXTensorElementDataType>(one.type)));
  }
  for (const Tensor& one : outputs) output_names.push_back(one.name.c_str());
  const std::vector<Ort::Value> found = session.Run(Ort::RunOptions{nullptr}, input_names.data(), values.data(),
                                                    values.size(), output_names.data(), output_names.size());
  bool good = true;
  for (size_t i = 0; i < found.size(); ++i) good = right(outputs[i], found[i]) && good;
  return good ? 0 : 1;
}

int main(int count, char** words) {
  std::string format = std::ifstream("qoperator/model.onnx") ? "qoperator" : "qdq";
  bool optimized = true;
  for (int i = 1; i < count; ++i) {
    if (std::string(words[i]) == "--unoptimized")
      optimized = false;
    else
      format = words[i];
  }
  try {
    return run(format, optimized);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
