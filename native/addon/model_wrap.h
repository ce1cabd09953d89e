// Model as a JavaScript class: one handle, whose verbs are promises (lib/native/binding.ts, NativeModel).
#pragma once

#include <napi.h>

#include <memory>

#include "model/model.h"

namespace cream::addon {

class ModelWrap : public Napi::ObjectWrap<ModelWrap> {
 public:
  static void define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<Model> model);

  // Exports: loadModel({config, files, dtype, device}), randomModel({config, seed, dtype, device}).
  static Napi::Value load(const Napi::CallbackInfo& info);
  static Napi::Value random(const Napi::CallbackInfo& info);
  // mergeCheckpoint({config, files, adapter, adapterFile, dtype, directory, maxShardBytes}).
  static Napi::Value merge_checkpoint(const Napi::CallbackInfo& info);

  explicit ModelWrap(const Napi::CallbackInfo& info);
  ~ModelWrap() override;

 private:
  Napi::Value num_parameters(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value score(const Napi::CallbackInfo& info);
  Napi::Value rewards(const Napi::CallbackInfo& info);
  Napi::Value save(const Napi::CallbackInfo& info);
  Napi::Value clone(const Napi::CallbackInfo& info);
  Napi::Value snapshot(const Napi::CallbackInfo& info);
  template <double (*kMove)(Model&)>
  Napi::Value move(const Napi::CallbackInfo& info);
  Napi::Value add_adapter(const Napi::CallbackInfo& info);
  Napi::Value load_adapter(const Napi::CallbackInfo& info);
  Napi::Value save_adapter(const Napi::CallbackInfo& info);
  Napi::Value merge_adapter(const Napi::CallbackInfo& info);
  Napi::Value create_trainer(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  Napi::Value logits(const Napi::CallbackInfo& info);
  Napi::Value tensors(const Napi::CallbackInfo& info);

  void let_go();
  const std::shared_ptr<Model>& alive() const;
  const std::shared_ptr<Model>& language_model() const;
  int64_t num_layers() const;

  std::shared_ptr<Model> model_;
  double num_parameters_ = 0;
  const char* dtype_ = "";
  int64_t bytes_ = 0;
};

}  // namespace cream::addon
