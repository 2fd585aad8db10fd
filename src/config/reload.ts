import { type Config, loadConfig, variables } from './config.ts'

/** What takes over a changed configuration; each may throw, and then nothing has changed. */
export interface Adopt {
  apiKeys(config: Config): void
  oauthClients(config: Config): void
  platform(setup: Config['platforms'][number]): void
}

export interface Reload {
  /** The environment that is in force now. */
  env: NodeJS.ProcessEnv
  changed: string[]
  /** Variables that stay as they were, and why: one line that repeats no value. */
  rejected: { variables: string[]; reason: string }[]
  /** Variables that are different and that only a restart takes over. */
  needRestart: string[]
}

/** Variables that change together, or stay together: a new id does not go with an old secret. */
interface Group {
  variables: string[]
  adopt(config: Config): void
}

/**
 * Takes over what may change while the process runs: API keys, OAuth clients and the variables of each configured
 * platform.
 * @param env in force now
 * @param next as it was read again
 */
export function reload(env: NodeJS.ProcessEnv, next: NodeJS.ProcessEnv, adopt: Adopt): Reload {
  const differs = (name: string) => (env[name] || '') !== (next[name] || '')
  const groups = groupsOf(loadConfig(env), adopt)
  const reloadable = new Set(groups.flatMap((group) => group.variables))
  const result: Reload = {
    env,
    changed: [],
    rejected: [],
    needRestart: Object.keys(variables.properties).filter((name) => !reloadable.has(name) && differs(name)),
  }
  let waiting = groups
    .map((group) => ({ ...group, variables: group.variables.filter(differs) }))
    .filter((group) => group.variables.length > 0)
  // A group may depend on another one: the only API key can go once there is a client.
  for (let before = Number.POSITIVE_INFINITY; waiting.length < before; ) {
    before = waiting.length
    result.rejected = []
    waiting = waiting.filter((group) => !take(group, next, result))
  }
  return result
}

function take(group: Group, next: NodeJS.ProcessEnv, result: Reload): boolean {
  const env = { ...result.env, ...Object.fromEntries(group.variables.map((name) => [name, next[name]])) }
  try {
    group.adopt(loadConfig(env))
  } catch (error) {
    result.rejected.push({ variables: group.variables, reason: (error as Error).message })
    return false
  }
  result.env = env
  result.changed.push(...group.variables)
  return true
}

function groupsOf({ platforms }: Config, adopt: Adopt): Group[] {
  return [
    { variables: ['API_KEYS'], adopt: adopt.apiKeys },
    { variables: ['OAUTH_CLIENTS'], adopt: adopt.oauthClients },
    ...platforms.map(({ definition }) => ({
      variables: Object.keys(definition.variables.properties),
      adopt(config: Config) {
        const setup = config.platforms.find((candidate) => candidate.definition === definition)
        if (setup) adopt.platform(setup)
      },
    })),
  ]
}
