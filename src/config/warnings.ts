import type { Config } from './config.ts'

/** What a configuration that the gateway accepts lacks all the same; one line each. */
export function warningsOf(config: Config): string[] {
  const warnings: string[] = []
  if (config.production && config.publicUrl === undefined)
    warnings.push(
      'PUBLIC_URL: is not set, so upload URLs and the issuer of tokens have the address of the listener, which is wrong behind a proxy',
    )
  if (config.production && config.databaseUrl === 'memory:')
    warnings.push('DATABASE_URL: is memory:, so a restart forgets every video')
  if (config.oauthClients.length > 0 && config.oauthSigningKey === undefined)
    warnings.push(
      'OAUTH_SIGNING_KEY: is not set, so access tokens end with this process, and other processes do not accept them',
    )
  return warnings
}
