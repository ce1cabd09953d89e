{
  # npm itself builds nothing ("gypfile": false). For tools that insist on node-gyp: one action, the same build script.
  'targets': [
    {
      'target_name': 'cream',
      'type': 'none',
      'actions': [
        {
          'action_name': 'build_native',
          'inputs': ['CMakeLists.txt', 'scripts/native.cjs'],
          'outputs': ['build/Release/cream.node'],
          'action': ['node', 'scripts/native.cjs', 'build'],
        },
      ],
    },
  ],
}
