/* Stand-in for Zymbit's libzk_app_utils.so: what it does not have. SIMULATED.
 *
 * The binding asks for these names when it is imported, so they are here; each says that it is not
 * implemented, and nothing is done. Arguments are not looked at. A function called with more
 * arguments than it names leaves them alone in the calling conventions of Linux.
 */
#include <errno.h>

#define REFUSED(name)                                                                             \
    int name(void *context) {                                                                     \
        (void)context;                                                                            \
        return -ENOSYS;                                                                           \
    }

/* asked for always: bus address and movement */
REFUSED(zkSetI2CAddr)
REFUSED(zkSetTapSensitivity)
REFUSED(zkWaitForTap)
REFUSED(zkGetAccelerometerData)

/* other parties' keys, further keys, key agreement */
REFUSED(zkVerifyECDSASigFromDigestWithForeignKeySlot)
REFUSED(zkStoreForeignPubKey)
REFUSED(zkDisablePubKeyExport)
REFUSED(zkGenKeyPair)
REFUSED(zkGenEphemeralKeyPair)
REFUSED(zkRemoveKey)
REFUSED(zkInvalidateEphemeralKey)
REFUSED(zkDoRawECDH)
REFUSED(zkDoRawECDHWithIntPeerPubkey)
REFUSED(zkDoECDHAndKDF)
REFUSED(zkDoECDHAndKDFWithIntPeerPubkey)

/* wallets */
REFUSED(zkGenWalletMasterSeedWithBIP39)
REFUSED(zkGenWalletMasterSeedWithSLIP39)
REFUSED(zkSetSLIP39GroupInfo)
REFUSED(zkAddSLIP39MemberPassword)
REFUSED(zkCancelSLIP39Session)
REFUSED(zkGenOversightWallet)
REFUSED(zkRestoreWalletMasterSeedFromBIP39Mnemonic)
REFUSED(zkAddRestoreSLIP39Mnemonic)
REFUSED(zkRestoreWalletMasterSeedFromSLIP39)
REFUSED(zkGenWalletChildKey)
REFUSED(zkGetWalletNodeAddrFromKeySlot)
REFUSED(zkGetWalletKeySlotFromNodeAddr)

/* temperatures, battery, low power, supervised boot */
REFUSED(zkGetCPUTemp)
REFUSED(zkGetAUXTemp)
REFUSED(zkGetRTCDrift)
REFUSED(zkGetBatteryVoltage)
REFUSED(zkSetDigitalPerimeterDetectLPPeriod)
REFUSED(zkSetDigitalPerimeterDetectLPMaxBits)
REFUSED(zkSetDigitalPerimeterDetectDelays)
REFUSED(zkSetBatteryVoltageAction)
REFUSED(zkSetBatteryVoltageThreshold)
REFUSED(zkSetCPUTempAction)
REFUSED(zkSetCPULowTempThreshold)
REFUSED(zkSetCPUHighTempThreshold)
REFUSED(zkSetSupervisedBootPolicy)
REFUSED(zkAddOrUpdateSupervisedBootFile)
REFUSED(zkRemoveSupervisedBootFile)
REFUSED(zkGetSupervisedBootFileManifest)
