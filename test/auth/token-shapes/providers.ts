import { auth0 } from './auth0.ts'
import { cognito } from './cognito.ts'
import { entraId } from './entra-id.ts'
import { google } from './google.ts'
import { keycloak } from './keycloak.ts'
import { okta } from './okta.ts'

/** The tokens of each provider, as it issues them, without what the gateway does not read (names, session, scopes of others). */
export const providers = [...keycloak, ...auth0, ...okta, ...entraId, ...cognito, ...google]
