import { type CredentialWatch, watchCredentials } from './credential-watch.ts'
import type { VideoPlatform } from './platform.ts'
import type { PlatformDefinition, PlatformTools } from './tools.ts'

/** A platform and its variables, which are checked against the definition's schema. */
export interface PlatformSetup {
  definition: PlatformDefinition
  variables: Record<string, unknown>
}

export interface ConfiguredPlatforms {
  /** By name, in the order of the configuration; the first is the default. */
  adapters: ReadonlyMap<string, VideoPlatform>
  /** Begins to check the credentials of each, in the background. */
  watch(): void
  /**
   * Replaces the adapter of a platform that is configured. Calls in progress go on with the old one, so an upload ends
   * with the credentials that it began with.
   */
  replace(setup: PlatformSetup): void
  /** Closes every adapter, replaced ones included. */
  close(): Promise<void>
}

/** Creates the adapters of the configured platforms. */
export function configurePlatforms(
  setups: readonly PlatformSetup[],
  tools: PlatformTools,
  { signal, changed }: Pick<CredentialWatch, 'signal' | 'changed'>,
): ConfiguredPlatforms {
  const adapters = new Map<string, VideoPlatform>()
  const watches = new Map<string, AbortController>()
  /** Closed at the end only: a long upload still opens connections, and idle ones close on their own. */
  const replaced: VideoPlatform[] = []
  for (const setup of setups) adapters.set(setup.definition.name, create(setup))

  function create({ definition, variables }: PlatformSetup): VideoPlatform {
    const observer: PlatformTools['observer'] = {
      ...tools.observer,
      // The circuit of a replaced adapter is not reported: no new call uses it.
      circuit: (name, state) => adapters.get(name) === adapter && tools.observer.circuit(name, state),
    }
    const adapter = definition.create(variables as never, { ...tools, observer })
    return adapter
  }

  function watch(adapter: VideoPlatform): void {
    const ended = new AbortController()
    watches.set(adapter.name, ended)
    const either = AbortSignal.any([signal, ended.signal])
    watchCredentials({ platforms: [adapter], log: tools.log, changed, signal: either })
  }

  return {
    adapters,
    watch() {
      for (const adapter of adapters.values()) watch(adapter)
    },
    replace(setup) {
      const { name } = setup.definition
      const adapter = create(setup)
      const old = adapters.get(name)
      if (old) replaced.push(old)
      adapters.set(name, adapter)
      tools.observer.circuit(name, 'closed')
      changed(name, undefined)
      if (!watches.has(name)) return
      watches.get(name)?.abort()
      watch(adapter)
    },
    async close() {
      await Promise.all([...adapters.values(), ...replaced].map((adapter) => adapter.close()))
    },
  }
}
