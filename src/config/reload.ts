import { type Config, loadConfig, variables } from './config.ts'

/** Functions that apply a changed configuration; each may throw, and then nothing has changed. */
export interface Adopt {
  apiKeys(config: Config): void
  oauthClients(config: Config): void
  platform(setup: Config['platforms'][number]): void
}

export interface Reload {
  /** The environment after the reload. */
  env: NodeJS.ProcessEnv
  changed: string[]
  /** Variables that keep their values, and the reason: one line that contains no value. */
  rejected: { variables: string[]; reason: string }[]
  /** Changed variables that take effect only after a restart. */
  needRestart: string[]
}

/** Variables that change together or not at all: a new id does not work with an old secret. */
interface Group {
  variables: string[]
  adopt(config: Config): void
}

/**
 * Applies the changes that are possible while the process runs: to API keys, OAuth clients and the variables of each
 * configured platform.
 * @param env the current environment
 * @param next the environment as read again
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
  // A group may depend on another one: the only API key can be deleted once a client is configured.
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
