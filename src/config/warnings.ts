import type { Config } from './config.ts'

/** Returns one line for each weakness of a configuration that the gateway accepts. */
export function warningsOf(config: Config): string[] {
  const warnings: string[] = []
  if (config.production && config.publicUrl === undefined)
    warnings.push(
      'PUBLIC_URL: is not set, so upload URLs and the issuer of tokens contain the address of the listener, which is wrong behind a proxy',
    )
  if (config.production && config.databaseUrl === 'memory:')
    warnings.push('DATABASE_URL: is memory:, so a restart forgets every video')
  if (config.oauthClients.length > 0 && config.oauthSigningKey === undefined && config.secrets.length === 0)
    warnings.push(
      'GATEWAY_SECRET: is not set, so access tokens become invalid when this process ends, and other processes do not accept them',
    )
  if (config.production && config.secrets.length === 0)
    warnings.push(
      'GATEWAY_SECRET: is not set, so the gateway cannot sign webhooks: it rejects new endpoints and delivers nothing (npm run secret makes one)',
    )
  if (config.externalIssuer?.allowHttp && config.externalIssuer.issuerUrl.startsWith('http:'))
    warnings.push(
      'OAUTH_ALLOW_HTTP: is true, so anyone who can change what the issuer sends can forge access tokens',
    )
  return warnings
}
