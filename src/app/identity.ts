import type { FastifyBaseLogger } from 'fastify'
import { createTokenIssuer } from '../auth/access-tokens.ts'
import { createAuthenticator } from '../auth/authenticate.ts'
import { createExternalIssuer } from '../auth/external-issuer.ts'
import { generateGatewaySecret } from '../auth/gateway-secret.ts'
import type { Config } from '../config/config.ts'

/**
 * Creates everything that proves who a client is, and the secrets that the gateway signs with.
 * @throws Error that names the variable of an invalid key
 */
export async function createIdentity(config: Config, log: FastifyBaseLogger, publicUrl: () => string) {
  // In production, what is derived from a secret must survive the process.
  const secrets = config.secrets.length > 0 || config.production ? config.secrets : [generateGatewaySecret()]
  const signingKey = config.oauthSigningKey
  const issuer = await createTokenIssuer({ issuerUrl: publicUrl, signingKey, secrets }).catch(
    (error: Error) => {
      throw new Error(`OAUTH_SIGNING_KEY: ${error.message}`)
    },
  )
  const external = config.externalIssuer && createExternalIssuer({ ...config.externalIssuer, log })
  return {
    secrets,
    issuer,
    authenticate: createAuthenticator({ apiKeys: config.apiKeys, issuer, external }),
    close: () => external?.close(),
  }
}
