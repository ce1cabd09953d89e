// Trainer as a JavaScript class (lib/native/binding.ts, NativeTrainer).
#pragma once

#include <napi.h>

#include <memory>

#include "addon/convert.h"
#include "train/trainer.h"

namespace cream::addon {

class TrainerWrap : public Napi::ObjectWrap<TrainerWrap> {
 public:
  static void define(Napi::Env env);
  // model.createTrainer(options): Promise<NativeTrainer>
  static Napi::Value start(Napi::Env env, std::shared_ptr<Model> model, const Argument& options);

  explicit TrainerWrap(const Napi::CallbackInfo& info);
  ~TrainerWrap() override;

 private:
  struct Held {
    std::shared_ptr<Trainer> trainer;
    int64_t vocab_size;
  };

  Napi::Value sft_step(const Napi::CallbackInfo& info);
  Napi::Value preference_step(const Napi::CallbackInfo& info);
  Napi::Value save_state(const Napi::CallbackInfo& info);
  Napi::Value load_state(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  Napi::Value sft_gradients(const Napi::CallbackInfo& info);
  Napi::Value preference_gradients(const Napi::CallbackInfo& info);
  Napi::Value simulate_memory_of(const Napi::CallbackInfo& info);

  void let_go();
  const std::shared_ptr<Trainer>& alive() const;

  Held held_;
};

}  // namespace cream::addon
